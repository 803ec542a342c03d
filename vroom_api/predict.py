"""Predictions: a request's bytes in, an answer's bytes out.

The short routes are plain ASGI handlers, which is what keeps them as fast as an empty endpoint: the body is
decoded and bounded by the champion's own decoder, scored on the event loop, and written. All that an
answer says comes from the one champion that was taken at its beginning.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import numpy as np
from litestar import MediaType, Response, asgi, post
from litestar import Request as HTTPRequest
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive, Scope, Send

from vroom_api.champion import (
    Champion,
    ChampionWatch,
    Interval,
    Taken,
    row_of,
    score,
)
from vroom_api.contract import Calibration, Fallback, Manifest
from vroom_api.entities import NotReadable
from vroom_api.forecasts import Forecasts
from vroom_api.freshness import Ages, Expired, admit
from vroom_api.prediction import Notes, caller_of
from vroom_api.problems import Fault, Problem
from vroom_api.reasons import Explanation, NotExplainable, explain
from vroom_api.record import NotRecorded, Recorder
from vroom_api.refusals import incomplete, not_finite, refusal, stored_wrongly, wrong
from vroom_api.scoring import Scorer
from vroom_api.support import outside, supported, usual

MOST_EXPLAINED = 20  # rows of a batch
EXPLAIN = b'"explain"'  # reasons take a hundred times as long as a prediction: others do not wait for them
_encode = msgspec.json.Encoder().encode


def prediction_routes(
    forecasts: Forecasts, *, largest_body: int, largest_batch: int, recorder: Recorder | None = None
) -> list[BaseRouteHandler]:
    """POST /predict and /predict/batch, of the flagship, and the same of every forecast by its name.

    Nothing is answered that the recorder, if there is one, did not keep.
    """
    scorers: defaultdict[str, Scorer] = defaultdict(Scorer)  # by forecast: rows of several share no call

    async def one(watch: ChampionWatch, scope: HTTPScope, receive: Receive) -> bytes:
        body = await read_body(scope, receive, largest_body)
        champion = serving(watch)
        notes = notes_of(recorder, scope)
        if EXPLAIN in body:
            answer = await asyncio.to_thread(predict_one, champion, body, notes)
        else:
            request = decoded(champion, body)
            scored = await scorers[watch.forecast].score(champion, request[0])
            answer = answered(champion, request, *scored, notes)
        await keep(recorder, notes)
        watch.answered[champion.version] += 1
        return answer

    async def many(watch: ChampionWatch, scope: HTTPScope, receive: Receive) -> bytes:
        body = await read_body(scope, receive, largest_body)
        champion = serving(watch)
        notes = notes_of(recorder, scope)
        if EXPLAIN in body:
            answer, rows = await asyncio.to_thread(predict_many, champion, body, largest_batch, notes)
        else:
            answer, rows = predict_many(champion, body, largest_batch, notes)
        await keep(recorder, notes)
        watch.answered[champion.version] += rows
        return answer

    @asgi("/predict", copy_scope=False)
    async def predict(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, await one(forecasts.flagship, cast(HTTPScope, scope), receive))

    @asgi("/predict/batch", copy_scope=False)
    async def predict_batch(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, await many(forecasts.flagship, cast(HTTPScope, scope), receive))

    # Litestar gives plain ASGI handlers no path parameters. The document describes each forecast by itself.
    @post("/forecasts/{name:str}/predict", status_code=200, include_in_schema=False)
    async def predict_of(name: FromPath[str], request: HTTPRequest[Any, Any, Any]) -> Response[bytes]:
        answer = await one(forecasts.named(name), request.scope, request.receive)
        return Response(answer, media_type=MediaType.JSON)

    @post("/forecasts/{name:str}/predict/batch", status_code=200, include_in_schema=False)
    async def predict_batch_of(name: FromPath[str], request: HTTPRequest[Any, Any, Any]) -> Response[bytes]:
        answer = await many(forecasts.named(name), request.scope, request.receive)
        return Response(answer, media_type=MediaType.JSON)

    return [predict, predict_batch, predict_of, predict_batch_of]


def notes_of(recorder: Recorder | None, scope: Scope) -> Notes | None:
    return Notes(caller_of(scope), time.perf_counter_ns()) if recorder is not None else None


async def keep(recorder: Recorder | None, notes: Notes | None) -> None:
    """Wait until what a request predicted is durable.

    Raises:
        Problem: it is not in the record, 503.
    """
    if recorder is None or notes is None:
        return
    try:
        await recorder.record(*notes.made)
    except NotRecorded as error:
        retry = {"retry-after": str(error.retry_after)}
        raise Problem(503, "not-recorded", str(error), headers=retry) from error


def serving(watch: ChampionWatch) -> Champion:
    """The champion.

    Raises:
        Problem: there is none, 503.
    """
    champion = watch.champion
    if champion is None:
        why = f" ({watch.failure})" if watch.failure else ""
        raise Problem(
            503,
            "no-champion",
            f"no champion of {watch.forecast} serves yet{why}; `make run FORECAST={watch.forecast}` trains one, and so does "
            f"materializing the asset {watch.forecast}/champion in Dagster",
            headers={"retry-after": "10"},
        )
    return champion


def predict_one(champion: Champion, body: bytes, notes: Notes | None = None) -> bytes:
    """Answer a JSON object of inputs.

    Raises:
        Problem: 400 for what is no JSON, 422 for what the champion cannot answer, 503 if it has expired.
    """
    request = decoded(champion, body)
    predictions, features = score(champion, np.array([request[0]], dtype=np.float64))
    return answered(champion, request, predictions.item(), features[0].tolist(), notes)


Request = tuple[list[float], float, bool, str | None, dict[str, str] | None, Taken | msgspec.UnsetType]
"""Inputs, level, explain, entity id, tags, and which inputs were taken from what is stored of the entity."""


def decoded(champion: Champion, body: bytes) -> Request:
    """The parts of one request.

    Raises:
        Problem: 400 for what is no JSON, 422 for what is none, or is outside its range.
    """
    try:
        request = champion.decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refusal(champion.manifest, body, error) from None
    *row, level, explained, entity_id, tags = msgspec.structs.astuple(request)
    taken: Taken | msgspec.UnsetType = msgspec.UNSET
    if msgspec.UNSET in row:
        taken, stored = complete(champion, row, entity_id)
        tags = (stored | (tags or {})) or None
    if champion.coded:
        row = row_of(champion, row)
    return row, level, explained, entity_id, tags, taken


def complete(
    champion: Champion, row: list[Any], entity_id: str | None, number: int | None = None
) -> tuple[Taken | msgspec.UnsetType, dict[str, str]]:
    """Fill in, in place, the inputs that a request left out: from what is stored, else with nothing.

    Args:
        number: of the row in its batch.

    Returns:
        what was taken from what is stored, and the tags that are stored with it.

    Raises:
        Problem: 422 for an input that has to be given, 404 if it is an entity of which nothing is stored,
            503 if what is stored cannot be read.
    """
    fields = champion.manifest.inputs
    left_out = [place for place, value in enumerate(row) if value is msgspec.UNSET]
    try:
        stored = None if entity_id is None else champion.entities.find(entity_id)
    except NotReadable as error:
        raise Problem(
            503, "no-entities", f"{error}; materialize online_features", headers={"retry-after": "10"}
        ) from error
    known = {} if stored is None else stored.values
    names: list[str] = []
    for place in left_out:
        field = fields[place]
        value = known.get(field.name)
        row[place] = value
        if value is not None and (why := wrong(value, field)):
            raise stored_wrongly(field, value, why, number)
        if value is not None:
            names.append(field.name)
    missing = [fields[place] for place in left_out if row[place] is None and not fields[place].nullable]
    if missing:
        raise incomplete(champion, missing, entity_id, number)
    if stored is None or not names:
        return msgspec.UNSET, {}
    tags = {name: str(known[name]) for name in champion.manifest.tags if known.get(name) is not None}
    return Taken(stored.as_of, names), tags


def answered(
    champion: Champion, request: Request, value: float, known: list[float], notes: Notes | None
) -> bytes:
    """The answer to one request whose row was scored: `value` is the prediction, `known` are the features.

    Raises:
        Problem: 422 without a finite prediction or reasons, 503 if the champion has expired.
    """
    row, level, explained, entity_id, tags, taken = request
    ages = admitted(champion)
    fallback = champion.manifest.fallback_of(row)
    needed = known if fallback is None else _read_by(fallback, champion.manifest, known)
    if not (math.isfinite(value) and all(map(math.isfinite, needed))):
        raise not_finite(champion.manifest, row, known)
    strange = [] if usual(champion.limits, [*row, *known]) else outside(champion.manifest, row, known)
    interval = _interval((fallback or champion.manifest).calibration, value, level)
    answer = champion.answer(
        value,
        interval,
        not strange,
        strange,
        ages.freshness,
        ages.data_age_s,
        ages.model_age_s,
        reasons_of(champion, row) if explained else msgspec.UNSET,
        prediction_id=msgspec.UNSET
        if notes is None
        else notes.take(champion.origin, row, known, value, interval, entity_id, tags),
        stored=taken,
        **({} if fallback is None else {"fallback": fallback.description}),
    )
    return _encode(answer)


def _fallen(manifest: Manifest, rows: list[list[float]]) -> dict[int, Fallback]:
    """The rows that the fallback answers, by their place."""
    found = ((place, manifest.fallback_of(row)) for place, row in enumerate(rows))
    return {place: fallback for place, fallback in found if fallback is not None}


def _read_by(fallback: Fallback, manifest: Manifest, features: list[float]) -> list[float]:
    """The features that the fallback's recipe reads."""
    read = fallback.recipe.features
    return [value for field, value in zip(manifest.features, features, strict=True) if field.name in read]


def predict_many(champion: Champion, body: bytes, most: int, notes: Notes | None = None) -> tuple[bytes, int]:
    """Answer a JSON array of 1 to `most` objects, in its order, and say how many; all or nothing.

    Raises:
        Problem: as for one.
    """
    try:
        requests = champion.batch_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refusal(champion.manifest, body, error, batch=True) from None
    if not 1 <= len(requests) <= most:
        allowed = f"1..{most} rows"
        detail = f"batch: {len(requests)} rows are not within {allowed}"
        raise Problem(422, "invalid-input", detail, faults=[Fault("batch", detail, allowed)])
    told = [msgspec.structs.astuple(request) for request in requests]
    taken: dict[int, Taken | msgspec.UnsetType] = {}
    for number, given in enumerate(told):
        if msgspec.UNSET in given:
            *row, level, explain, entity_id, tags = given
            taken[number], stored = complete(champion, row, entity_id, number)
            told[number] = (*row, level, explain, entity_id, (stored | (tags or {})) or None)
    if champion.coded:
        told = [(*row_of(champion, list(fields[:-4])), *fields[-4:]) for fields in told]
    table = np.array([fields[:-2] for fields in told], dtype=np.float64)
    rows, levels, explained = np.ascontiguousarray(table[:, :-2]), table[:, -2].tolist(), table[:, -1]
    if explained.sum() > MOST_EXPLAINED:
        detail = f"explain: reasons are given for up to {MOST_EXPLAINED} rows of a batch"
        raise Problem(422, "invalid-input", detail, faults=[Fault("explain", detail)])
    ages = admitted(champion)
    predictions, features = score(champion, rows)
    manifest = champion.manifest
    fit: np.ndarray = np.isfinite(features)
    fallen = {} if manifest.fallback is None else _fallen(manifest, rows.tolist())
    for place, fallback in fallen.items():
        fit[place] = np.isfinite(_read_by(fallback, manifest, features[place].tolist())).all()
    finite = np.isfinite(predictions) & fit.all(axis=1)
    if not finite.all():
        place = int(np.argmin(finite))
        raise not_finite(champion.manifest, rows[place].tolist(), features[place].tolist(), place)
    answer = champion.answer
    usual = supported(manifest, rows, features).tolist()
    aged = ages.freshness, ages.data_age_s, ages.model_age_s, msgspec.UNSET
    answers = [
        answer(value, _interval(manifest.calibration, value, level), inside, [], *aged)
        for value, level, inside in zip(predictions.tolist(), levels, usual, strict=True)
    ]
    for place, fallback in fallen.items():
        interval = _interval(fallback.calibration, predictions[place].item(), levels[place])
        answers[place] = msgspec.structs.replace(
            answers[place], interval=interval, fallback=fallback.description
        )
    for place, found in taken.items():
        answers[place] = msgspec.structs.replace(answers[place], stored=found)
    for place in np.flatnonzero(np.logical_not(usual)).tolist():
        strange = outside(manifest, rows[place].tolist(), features[place].tolist())
        answers[place] = msgspec.structs.replace(answers[place], outside=strange)
    for place in np.flatnonzero(explained).tolist():
        answers[place] = msgspec.structs.replace(
            answers[place], reasons=reasons_of(champion, rows[place].tolist())
        )
    labels = [fields[-2:] for fields in told]
    kept = noted(champion, notes, labels, rows.tolist(), features.tolist(), answers)
    return _encode(kept), len(kept)


def noted(
    champion: Champion,
    notes: Notes | None,
    labels: Sequence[tuple[str | None, dict[str, str] | None]],
    rows: Sequence[list[float]],
    features: Sequence[list[float]],
    answers: list[Any],
) -> list[Any]:
    """The answers, with the ids under which they are recorded where they are.

    Args:
        labels: entity id and tags of each row.
    """
    if notes is None:
        return answers
    return [
        msgspec.structs.replace(
            answer,
            prediction_id=notes.take(champion.origin, row, known, answer.value, answer.interval, *label),
        )
        for label, row, known, answer in zip(labels, rows, features, answers, strict=True)
    ]


def admitted(champion: Champion) -> Ages:
    """The ages of the champion and its data, now.

    Raises:
        Problem: it has expired and its forecast refuses such answers, 503.
    """
    try:
        return admit(champion.manifest, datetime.now(UTC))
    except Expired as error:
        raise Problem(503, "expired", str(error)) from error


def reasons_of(champion: Champion, row: list[float]) -> Explanation:
    """Why the champion predicts for a row what it predicts.

    Raises:
        Problem: it cannot be explained, 422.
    """
    try:
        return explain(lambda rows: score(champion, rows), champion.manifest, np.array(row, dtype=np.float64))
    except NotExplainable as error:
        raise Problem(422, "no-reasons", str(error), faults=[Fault("explain", str(error))]) from error


async def read_body(scope: HTTPScope, receive: Receive, largest: int) -> bytes:
    """The whole body of a POST.

    Raises:
        Problem: another method, 405, or more than `largest` bytes, 413.
    """
    if scope["method"] != "POST":
        raise Problem(
            405,
            "method-not-allowed",
            f"{scope['path']} does not take {scope['method']}; it takes POST",
            headers={"allow": "POST"},
        )
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
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def respond(send: Send, body: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _interval(calibration: Calibration, value: float, level: float) -> Interval:
    low, high = calibration.interval(value, level)
    return Interval(level, int(low), int(high)) if calibration.integer else Interval(level, low, high)
