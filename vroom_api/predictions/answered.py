"""Answers: from rows of inputs to JSON."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from vroom_api.champion.freshness import Ages, Expired, admit
from vroom_api.champion.loading import Champion, row_of, score
from vroom_api.champion.schemas import Interval, Taken
from vroom_api.contract import Calibration, Fallback, Manifest
from vroom_api.explanation.reasons import Explanation, NotExplainable, explain
from vroom_api.explanation.support import outside, supported, usual
from vroom_api.predictions.asked import Request, complete, decoded
from vroom_api.predictions.refusals import not_finite, refusal
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import Notes

MOST_EXPLAINED = 20  # rows of a batch
_encode = msgspec.json.Encoder().encode


def predict_one(champion: Champion, body: bytes, notes: Notes | None = None) -> bytes:
    """Answer a JSON object of inputs.

    Raises:
        Problem: 400 for what is no JSON, 422 for what the champion cannot answer, 503 if it has expired.
    """
    request = decoded(champion, body)
    predictions, features = score(champion, np.array([request[0]], dtype=np.float64))
    return answered(champion, request, predictions.item(), features[0].tolist(), notes)


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


def _interval(calibration: Calibration, value: float, level: float) -> Interval:
    low, high = calibration.interval(value, level)
    return Interval(level, int(low), int(high)) if calibration.integer else Interval(level, low, high)
