"""POST /advise/..."""

import asyncio
from typing import Any

from litestar import MediaType, Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.watch import ChampionWatch
from vroom_api.predictions.advice import answer_question
from vroom_api.routes.predictions import read_body, serving


def advice_routes(forecasts: Forecasts, *, largest_body: int) -> list[HTTPRouteHandler]:
    """POST /advise/<question>, of the flagship, and the same of every forecast by its name."""

    async def advice(watch: ChampionWatch, question: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        body = await read_body(request.scope, request.receive, largest_body)
        folder = request.scope["path"].removesuffix(question)
        # A curve takes a hundred times as long as a prediction: predictions do not wait for it.
        answer = await asyncio.to_thread(answer_question, serving(watch), question, body, folder)
        return Response(answer, media_type=MediaType.JSON)

    # Which questions there are the champion knows, and so does the OpenAPI document that is made from it.
    @post("/advise/{question:str}", status_code=200, include_in_schema=False)
    async def advise_about(question: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
        return await advice(forecasts.flagship, question, request)

    @post("/forecasts/{name:str}/advise/{question:str}", status_code=200, include_in_schema=False)
    async def advise_of(
        name: FromPath[str], question: FromPath[str], request: Request[Any, Any, Any]
    ) -> Response[bytes]:
        return await advice(forecasts.named(name), question, request)

    return [advise_about, advise_of]
