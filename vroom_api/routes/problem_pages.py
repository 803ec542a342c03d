"""GET /problems: what each refusal means and what to do about it, for people and for programs."""

from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.params import PathParameter

from vroom_api.causes import CAUSES, Cause
from vroom_api.dashboard.pages import page
from vroom_api.problems import TITLES, Problem
from vroom_api.routes.problems import documented
from vroom_api.routes.readable import is_for_reading
from vroom_api.routes.revalidation import revalidated
from vroom_api.texts import meant


class CauseView(msgspec.Struct, frozen=True):
    name: str
    statuses: str
    meaning: str
    remedy: str
    example: str


class ProblemsPage(msgspec.Struct, frozen=True):
    """What problems.html lays out."""

    title: str
    causes: list[CauseView]


def _view(cause: Cause) -> CauseView:
    return CauseView(
        name=cause.type.rpartition(":")[2],
        statuses=", ".join(f"{status} {TITLES[status]}" for status in cause.statuses),
        meaning=cause.meaning,
        remedy=cause.remedy,
        example=msgspec.json.format(msgspec.json.encode(cause.example), indent=2).decode(),
    )


def _answer(request: Request[Any, Any, Any], title: str, causes: list[Cause], content: Any) -> Response[Any]:
    if is_for_reading(request.scope):
        view = ProblemsPage(title, [_view(cause) for cause in causes])
        return Response(page("problems.html", view), media_type=MediaType.HTML)
    return Response(content)


@get(
    "/problems",
    operation_id="problems",
    summary="Every cause for which a request is refused, as JSON or for a browser as a page",
    middleware=[revalidated],
    sync_to_thread=False,
)
def list_problems(request: Request[Any, Any, Any]) -> Response[list[Cause]]:
    causes = [CAUSES[name] for name in sorted(CAUSES)]
    return _answer(request, "Problems", causes, causes)


@get(
    "/problems/{cause:str}",
    operation_id="problem",
    summary="One of these causes; `help` of a problem leads here",
    responses={404: documented("no problem has that type")},
    middleware=[revalidated],
    sync_to_thread=False,
)
def show_problem(
    cause: Annotated[
        str, PathParameter(description="of the problem, e.g. invalid-input; also as its `type`")
    ],
    request: Request[Any, Any, Any],
) -> Response[Cause]:
    name = cause.removeprefix("urn:vroom:")
    found = CAUSES.get(name)
    if found is None:
        hint = meant(name, CAUSES)
        raise Problem(
            404, "unknown-problem", f"there is no problem {name[:64]!r}{hint}; /problems lists them"
        )
    return _answer(request, name, [found], found)


router = Router("/", route_handlers=[list_problems, show_problem], tags=["operation"])
