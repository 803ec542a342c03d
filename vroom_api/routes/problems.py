"""Refusals as responses."""

import logging
import re
from typing import Any

import msgspec
import sqlalchemy as sa
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec

from vroom_api.contract.tables import UnusableDatabase
from vroom_api.problems import MEDIA_TYPE, Fault, Problem
from vroom_api.record.recorder import RETRY_AFTER
from vroom_api.texts import as_asked

log = logging.getLogger(__name__)

_MISSING = re.compile(r"Missing required query parameter '(\w+)'")


def documented(description: str) -> ResponseSpec:
    """A refusal in the OpenAPI document; the shape is the same everywhere."""
    return ResponseSpec(None, description=description)


def respond(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem.content(request.scope["path"])),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def respond_to_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What Litestar refuses by itself: unknown paths and methods, parameters, oversized bodies."""
    causes = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    given = {name.lower(): value for name, value in (error.headers or {}).items()}
    methods = set(given["allow"].split(", ")) if "allow" in given else set()
    allowed = ", ".join(
        sorted(methods | {"HEAD"} if "GET" in methods else methods)
    )  # the shield answers HEAD
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
                faults.append(Fault(str(part.get("key", "")), as_asked(str(part.get("message", "")))))
        detail = "; ".join(f"{fault.field}: {fault.detail}" for fault in faults) or detail
    elif missing := _MISSING.match(detail):
        faults = [Fault(missing[1], f"missing; {request.scope['path']}?{missing[1]}=... gives it")]
        detail = f"{missing[1]}: {faults[0].detail}"
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


def _respond_without_record(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, UnusableDatabase):
        log.error("the record cannot be read: %s", error)
    return respond(
        request,
        Problem(
            503,
            "record-unavailable",
            "the database of the record does not answer; ask again",
            headers={"retry-after": str(RETRY_AFTER)},
        ),
    )


RECORD_UNAVAILABLE = documented("the database of the record does not answer")

# A lock that was never released, a server that is gone, and a race that was lost five times.
RECORD_HANDLERS: Any = {
    sa.exc.OperationalError: _respond_without_record,
    sa.exc.IntegrityError: _respond_without_record,
    UnusableDatabase: _respond_without_record,
}
