"""POST /predict and /predict/batch, of the flagship and of every forecast by its name."""

import asyncio
import time
from collections import defaultdict
from functools import partial
from typing import Any, cast

import msgspec
from litestar import MediaType, Response, Router, asgi, post
from litestar import Request as HTTPRequest
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive, Scope, Send

from vroom_api.champion.forecasts import Forecasts
from vroom_api.champion.loading import Champion
from vroom_api.champion.scoring import Scored, Scorer
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract.benchmark import BENCHMARK_TAG
from vroom_api.json_bodies import without_mark
from vroom_api.predictions.answered import answer_one, predict_asked, predict_in_steps, predict_many
from vroom_api.predictions.asked import ROWS_AT_A_TIME, Asked, Result, Steps, request_of, waits_for_lookup
from vroom_api.predictions.choice import Chosen, answering
from vroom_api.predictions.refusals import NotFinite
from vroom_api.predictions.shadow import Shadow
from vroom_api.problems import Problem
from vroom_api.record.prediction import PredictionLog, caller_of
from vroom_api.record.recorder import NotRecorded, Recorder
from vroom_api.routes.parameters import check_names
from vroom_api.security.keys import Grant

PREDICT, PREDICT_BATCH = "/predict", "/predict/batch"
BENCHMARK = BENCHMARK_TAG.encode()
EXPLAIN = b'"explain"'  # reasons take a hundred times as long as a prediction: others do not wait for them
ENTITY_ID = b'"entity_id"'


class Predictor:
    """Answers the bodies of requests. Nothing is answered that the recorder, if there is one, did not keep.

    Args:
        largest_body: in bytes.
        largest_batch: in rows.
    """

    def __init__(
        self,
        forecasts: Forecasts,
        *,
        largest_body: int,
        largest_batch: int,
        recorder: Recorder | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self.forecasts = forecasts
        self.largest_body = largest_body
        self.largest_batch = largest_batch
        self._recorder = recorder
        self._shadow = shadow
        # By forecast: rows of different forecasts cannot share a call of a model.
        self._scorers: defaultdict[str, Scorer] = defaultdict(Scorer)
        self._batches = asyncio.Lock()

    async def predict(self, watch: ChampionWatch, scope: HTTPScope, receive: Receive) -> bytes:
        """The answer to one object of inputs."""
        return await self.answer(watch, scope, await read_body(scope, receive, self.largest_body))

    async def answer(self, watch: ChampionWatch, scope: Scope, body: bytes) -> bytes:
        """The answer to a body that was read already."""
        serves, log = serving(watch), self._log(scope)
        if BENCHMARK in body and EXPLAIN not in body:
            return await self._predict_timed(watch, serves, body, log)
        chosen = await self._choose(serves, request_of(serves, body), body)
        try:
            return await self._answer_by(watch, chosen.version, chosen.asked, log)
        except NotFinite as refused:
            return await self._hand_back(watch, serves, chosen, log, refused)

    async def _hand_back(
        self,
        watch: ChampionWatch,
        serves: Champion,
        chosen: Chosen,
        log: PredictionLog | None,
        refused: NotFinite,
    ) -> bytes:
        """The champion's answer, where it was another version that has no finite number.

        Raises:
            NotFinite: it was the champion, or it has none either.
        """
        if chosen.version is serves:
            raise refused
        watch.handed_back += 1
        return await self._answer_by(watch, serves, chosen.by_champion, log)

    async def _choose(self, serves: Champion, request: msgspec.Struct, body: bytes) -> Chosen:
        if waits_for_lookup(serves, request):
            return await asyncio.to_thread(answering, serves, body, request)
        return answering(serves, body, request)

    async def _answer_by(
        self, watch: ChampionWatch, version: Champion, asked: Asked, log: PredictionLog | None
    ) -> bytes:
        """The answer of a version, once it is in the record."""
        if asked.explain:
            answer = await asyncio.to_thread(predict_asked, version, asked, log)
        else:
            scorer = self._scorers[watch.forecast]
            scored = scorer.at_once(version, asked.row)
            if scored is None:
                future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                scorer.later(version, asked.row, partial(self._answer, version, asked, log, future))
                answer = await future
                watch.answered[version.version] += 1
                self._copy(version, log)
                return answer
            answer = answer_one(version, asked, *scored, log)
        await self._wait_until_durable(log)
        watch.answered[version.version] += 1
        self._copy(version, log)
        return answer

    async def _predict_timed(
        self, watch: ChampionWatch, serves: Champion, body: bytes, log: PredictionLog | None
    ) -> bytes:
        """As a caller that is alone is answered, and where the time went."""
        moments = [time.perf_counter()]
        request = request_of(serves, body)
        moments.append(time.perf_counter())
        chosen = await self._choose(serves, request, body)
        moments.append(time.perf_counter())
        scored = await self._scorers[watch.forecast].score(chosen.version, chosen.asked.row)
        moments.append(time.perf_counter())
        try:
            answer = Timed(answer_one(chosen.version, chosen.asked, *scored, log))
        except NotFinite as refused:
            return await self._hand_back(watch, serves, chosen, log, refused)
        moments.append(time.perf_counter())
        await self._wait_until_durable(log)
        moments.append(time.perf_counter())
        watch.answered[chosen.version.version] += 1
        parts = zip(("decode", "stored", "score", "answer", "record"), moments, moments[1:], strict=False)
        answer.timing = ", ".join(f"{part};dur={1000 * (end - begin):.4f}" for part, begin, end in parts)
        return answer

    def _answer(
        self,
        champion: Champion,
        asked: Asked,
        log: PredictionLog | None,
        future: "asyncio.Future[bytes]",
        scored: Scored | None,
        error: Exception | None,
    ) -> None:
        """Answer one row of a turn, once its prediction is in the record: its caller waits once and not twice."""
        if future.done():  # the caller has gone
            return
        try:
            if scored is None:
                raise error or RuntimeError("a row was neither scored nor refused")
            answer = answer_one(champion, asked, *scored, log)
            if self._recorder is not None and log is not None:
                self._recorder.add(log.predictions, partial(_finish, future, answer))
            else:
                future.set_result(answer)
        except NotRecorded as failure:
            future.set_exception(_not_recorded(failure))
        except Exception as failure:  # the caller gets it
            future.set_exception(failure)

    async def predict_batch(self, watch: ChampionWatch, scope: HTTPScope, receive: Receive) -> bytes:
        """The answers to a list of objects."""
        body = await read_body(scope, receive, self.largest_body)
        return await self.answer_batch(watch, serving(watch), scope, body)

    async def answer_batch(
        self, watch: ChampionWatch, champion: Champion, scope: HTTPScope, body: bytes
    ) -> bytes:
        """The answers of a champion to a JSON array of objects."""
        log = self._log(scope)
        # One batch after the other, each in steps: a probe or a single prediction waits for a step of one batch,
        # and not for all batches. Not in threads: they would hold the interpreter for longer than a step takes.
        # So would the record's own, so a large batch is in the record before the next one begins; small ones
        # share a commit.
        async with self._batches:
            if EXPLAIN in body or (champion.entities.waits and ENTITY_ID in body):
                batch = await asyncio.to_thread(predict_many, champion, body, self.largest_batch, log)
            else:
                batch = await run(predict_in_steps(champion, body, self.largest_batch, log))
            rows = batch.by_version.total()
            if large := rows > ROWS_AT_A_TIME:
                await self._wait_until_durable(log)
        if not large:
            await self._wait_until_durable(log)
        watch.answered.update(batch.by_version)
        watch.handed_back += batch.handed_back
        self._copy(champion, log)
        grant: Grant | None = scope.get("auth")
        if grant is not None:
            grant.charge(rows - 1)  # the shield counted the request as one
        return batch.content

    def _copy(self, champion: Champion, log: PredictionLog | None) -> None:
        """Let a version in shadow have what was answered; nobody waits for it."""
        if champion.tried is not None and self._shadow is not None and log is not None:
            self._shadow.offer(champion.tried, log.predictions)

    @property
    def is_recorded(self) -> bool:
        """Whether predictions are recorded, and answered with an id."""
        return self._recorder is not None

    def _log(self, scope: Scope) -> PredictionLog | None:
        return None if self._recorder is None else PredictionLog(caller_of(scope), time.perf_counter_ns())

    async def _wait_until_durable(self, log: PredictionLog | None) -> None:
        """Wait until what a request predicted is in the record.

        Raises:
            Problem: it is not, 503.
        """
        if self._recorder is None or log is None:
            return
        try:
            await self._recorder.record(*log.predictions)
        except NotRecorded as error:
            raise _not_recorded(error) from error


def _finish(future: "asyncio.Future[bytes]", answer: bytes, failure: NotRecorded | None) -> None:
    if future.done():  # the caller has gone
        return
    if failure is None:
        future.set_result(answer)
    else:
        future.set_exception(_not_recorded(failure))


def _not_recorded(error: NotRecorded) -> Problem:
    return Problem(503, "not-recorded", str(error), headers={"retry-after": str(error.retry_after)})


class Timed(bytes):
    """An answer to a benchmark, with the header Server-Timing; parts in milliseconds."""

    timing = ""


async def run(steps: Steps[Result]) -> Result:
    """Run to the end, with a turn for everybody else between two steps."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result
        await asyncio.sleep(0)


# All four are answered before the router (`direct`), unless middlewares of Litestar are to see them.
@asgi(PREDICT, copy_scope=False)
async def predict(scope: Scope, receive: Receive, send: Send) -> None:
    predictor: Predictor = scope["litestar_app"].state["predictor"]
    await respond(
        send, await predictor.predict(predictor.forecasts.flagship, cast(HTTPScope, scope), receive)
    )


@asgi(PREDICT_BATCH, copy_scope=False)
async def predict_batch(scope: Scope, receive: Receive, send: Send) -> None:
    predictor: Predictor = scope["litestar_app"].state["predictor"]
    await respond(
        send, await predictor.predict_batch(predictor.forecasts.flagship, cast(HTTPScope, scope), receive)
    )


# The document describes each forecast by itself.
@post("/forecasts/{name:str}/predict", status_code=200, include_in_schema=False)
async def predict_of(
    name: FromPath[str], request: HTTPRequest[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    answer = await predictor.predict(predictor.forecasts.named(name), request.scope, request.receive)
    headers = {"server-timing": answer.timing} if isinstance(answer, Timed) else {}
    return Response(answer, media_type=MediaType.JSON, headers=headers)


@post("/forecasts/{name:str}/predict/batch", status_code=200, include_in_schema=False)
async def predict_batch_of(
    name: FromPath[str], request: HTTPRequest[Any, Any, Any], predictor: NamedDependency[Predictor]
) -> Response[bytes]:
    answer = await predictor.predict_batch(predictor.forecasts.named(name), request.scope, request.receive)
    return Response(answer, media_type=MediaType.JSON)


router = Router("/", route_handlers=[predict, predict_batch, predict_of, predict_batch_of])


def to_get_one(forecast: str, trouble: str | None) -> str:
    """How a forecast comes to its first champion: by a training, and by correcting before what the latest one says."""
    first = f": {trouble}. Correct that; then" if trouble else ";"
    return (
        f"{first} `make run FORECAST={forecast}` trains one, and so does materializing the asset {forecast}/champion "
        "in Dagster"
    )


def serving(watch: ChampionWatch) -> Champion:
    """The champion.

    Raises:
        Problem: there is none, 503, or none any more, 410.
    """
    champion = watch.champion
    if champion is None and watch.retired is not None:
        raise Problem(
            410,
            "retired",
            f"{watch.retired}. Its predictions stay in the record; declare and publish it again, and it serves again",
        )
    if champion is None:
        raise Problem(
            503,
            "no-champion",
            f"no champion of {watch.forecast} serves yet{to_get_one(watch.forecast, watch.trouble)}",
            headers={"retry-after": "10"},
        )
    return champion


async def read_body(scope: HTTPScope, receive: Receive, largest: int) -> bytes:
    """The whole body of a POST.

    Raises:
        Problem: another method, 405, query parameters, 400, or more than `largest` bytes, 413.
    """
    if scope["method"] != "POST":
        raise Problem(
            405,
            "method-not-allowed",
            f"{scope['path']} does not take {scope['method']}; it takes POST",
            headers={"allow": "POST"},
        )
    if scope["query_string"]:
        check_names(scope["query_string"], ())
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "disconnected", "the connection ended before the body did")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest:
            raise Problem(
                413, "too-large", f"the body is larger than {largest} bytes; send fewer rows at a time"
            )
        more = message.get("more_body", False)
    return without_mark(parts[0] if len(parts) == 1 else b"".join(parts))


async def respond(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if isinstance(body, Timed):
        headers.append((b"server-timing", body.timing.encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
