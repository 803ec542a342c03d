"""Errors as callers see them: problem details (RFC 9457), one shape for all routes."""

from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"
OPEN_INFERENCE = "/v2"  # under it clients look for the reason in `error`

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
    410: "Gone",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
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
        faults: the parts of the request that are wrong; the first one is also given as `field` and `allowed`.
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

    def content(self, path: str = "") -> dict[str, Any]:
        """The members of the answer to a request for a path."""
        body: dict[str, Any] = {"error": self.detail} if path.startswith(OPEN_INFERENCE) else {}
        body |= {
            "type": f"urn:vroom:{self.cause}",
            "title": TITLES.get(self.status) or TITLES[self.status // 100 * 100],
            "status": self.status,
            "detail": self.detail,
            "help": f"/problems/{self.cause}",
        }
        if self.faults:
            first = self.faults[0]
            if first.field:
                body["field"] = first.field
            if first.allowed is not None:
                body["allowed"] = first.allowed
            body["errors"] = msgspec.to_builtins(self.faults)
        return body
