"""Errors as callers see them: problem details (RFC 9457), one shape for all routes."""

import logging
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# The words of RFC 9110 section 15 and RFC 6585, for every status that the service answers. Those of
# `http.HTTPStatus` are the interpreter's: 422 and 413 are called otherwise from Python 3.13 on.
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a request."""

    field: str
    detail: str
    allowed: str | None = None
    row: int | None = None  # of a batch, from 0


class Problem(Exception):
    """A refusal with its status, cause and remedy.

    Args:
        status: of the response.
        cause: short name of the cause, the same for every occurrence.
        detail: what, where, rule, remedy.
        faults: the parts of the request that are wrong; the first one is also told as `field` and `allowed`.
    """

    def __init__(
        self,
        status: int,
        cause: str,
        detail: str,
        *,
        faults: list[Fault] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.cause = cause
        self.detail = detail
        self.faults = faults or []
        self.headers = headers or {}

    def content(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:vroom:{self.cause}",
            "title": TITLES.get(self.status) or TITLES[self.status // 100 * 100],
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            first = self.faults[0]
            if first.field:
                body["field"] = first.field
            if first.allowed is not None:
                body["allowed"] = first.allowed
            body["errors"] = msgspec.to_builtins(self.faults)
        return body


def documented(description: str) -> ResponseSpec:
    """A refusal in the OpenAPI document; the shape is the same everywhere."""
    return ResponseSpec(None, description=description)


def respond(_: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem.content()),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def respond_to_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What Litestar refuses by itself: unknown paths and methods, parameters, oversized bodies."""
    causes = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    given = {name.lower(): value for name, value in (error.headers or {}).items()}
    allowed = ", ".join(sorted(given["allow"].split(", "))) if "allow" in given else ""
    headers = {"allow": allowed} if allowed else {}
    if error.status_code >= 500:
        return respond_to_defect(request, error)
    detail, faults = error.detail, []
    if error.status_code == 404:
        detail = f"{request.scope['path']}: there is nothing here; /schema lists what there is"
    elif error.status_code == 405:
        detail = f"{request.scope['path']} does not take {request.scope['method']}; it takes {allowed}"
    elif isinstance(error.extra, list):
        for part in error.extra:
            if isinstance(part, dict):
                faults.append(Fault(str(part.get("key", "")), str(part.get("message", ""))))
        detail = "; ".join(f"{fault.field}: {fault.detail}" for fault in faults) or detail
    return respond(
        request,
        Problem(
            error.status_code,
            causes.get(error.status_code, "refused"),
            detail,
            faults=faults,
            headers=headers,
        ),
    )


def respond_to_defect(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A defect of ours: the log has all of it, the caller none."""
    log.error("%s %s failed", request.scope["method"], request.scope["path"], exc_info=error)
    return respond(request, Problem(500, "defect", "the service failed on this request; its log says why"))
