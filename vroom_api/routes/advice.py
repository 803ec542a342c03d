"""POST /advise/<question>, of the flagship, and the same of every forecast by its name."""

import asyncio
from typing import Any

from litestar import MediaType, Request, Response, Router, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from vroom_api.champion.watch import ChampionWatch
from vroom_api.predictions.advice import answer_question
from vroom_api.routes.predictions import Predictor, read_body, serving


# Which questions there are the champion knows, and so does the OpenAPI document that is made from it.
@post("/advise/{question:str}", status_code=200, include_in_schema=False)
async def advise(
    question: FromPath[str], request: Request[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    return await _answer(predictor.forecasts.flagship, question, request, predictor.largest_body)


@post("/forecasts/{name:str}/advise/{question:str}", status_code=200, include_in_schema=False)
async def advise_of(
    name: FromPath[str],
    question: FromPath[str],
    request: Request[Any, Any, Any],
    predictor: NamedDependency[Predictor],
) -> Response[bytes]:
    return await _answer(predictor.forecasts.named(name), question, request, predictor.largest_body)


async def _answer(
    watch: ChampionWatch, question: str, request: Request[Any, Any, Any], largest_body: int
) -> Response[bytes]:
    body = await read_body(request.scope, request.receive, largest_body)
    folder = request.scope["path"].removesuffix(question)
    # A curve takes a hundred times as long as a prediction: predictions do not wait for it.
    answer = await asyncio.to_thread(answer_question, serving(watch), question, body, folder)
    return Response(answer, media_type=MediaType.JSON)


router = Router("/", route_handlers=[advise, advise_of])
