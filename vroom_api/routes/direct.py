"""The way of a prediction past the router: what is asked most needs nothing that Litestar would parse or inject.

Its router, its handlers of exceptions and its scope cost as much as the prediction, and it gives plain ASGI handlers
no path parameters. Paths of a forecast lead here once it is published; all other requests go to Litestar, and so do
those of names that are unknown here, which it answers with 404.
"""

import logging
from typing import Any, NamedTuple, cast

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from vroom_api.champion.watch import ChampionWatch
from vroom_api.problems import Problem
from vroom_api.routes.predictions import (
    PREDICT,
    PREDICT_BATCH,
    Predictor,
    respond,
)
from vroom_api.routes.problems import defect

log = logging.getLogger(__name__)
_OF, _BATCH_OF = "/forecasts/{name}/predict", "/forecasts/{name}/predict/batch"  # as metrics name them


class _Route(NamedTuple):
    watch: ChampionWatch
    is_batch: bool
    template: str  # as metrics name the route


class Direct:
    """An application whose predictions are answered without it."""

    def __init__(self, app: ASGIApp, predictor: Predictor) -> None:
        self._app = app
        self._predictor = predictor
        flagship = predictor.forecasts.flagship
        self._routes = {
            PREDICT: _Route(flagship, False, PREDICT),
            PREDICT_BATCH: _Route(flagship, True, PREDICT_BATCH),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope["path"]) if scope["method"] == "POST" else None  # type: ignore[typeddict-item]
        if route is None:
            await self._app(scope, receive, send)
            return
        cast("dict[str, Any]", scope)["path_template"] = route.template
        answer = self._predictor.predict_batch if route.is_batch else self._predictor.predict
        try:
            body = await answer(route.watch, cast(HTTPScope, scope), receive)
        except Problem:
            raise  # the shield answers it
        except Exception as error:
            raise defect(scope, error) from error
        await respond(send, body)

    def _route(self, path: str) -> _Route | None:
        """The route of a path; those of forecasts are remembered, which are never taken away while this runs."""
        route = self._routes.get(path)
        if route is None and path.startswith("/forecasts/"):
            name, _, rest = path.removeprefix("/forecasts/").partition("/")
            forecasts = self._predictor.forecasts
            if rest in ("predict", "predict/batch") and name in forecasts:
                is_batch = rest != "predict"
                template = _BATCH_OF if is_batch else _OF
                route = self._routes[path] = _Route(forecasts.named(name), is_batch, template)
        return route
