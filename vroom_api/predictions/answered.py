"""What is answered: from scored rows to JSON. One request is a batch of one."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from vroom_api.champion.freshness import Ages, Expired, admit
from vroom_api.champion.loading import Champion, score
from vroom_api.contract import Fallback, Manifest
from vroom_api.explanation.reasons import Explanation, NotExplainable, explain
from vroom_api.explanation.support import out_of_range, supported, within
from vroom_api.predictions.asked import Asked, Steps, finish, slices
from vroom_api.predictions.choice import ChosenRows, answering, answering_in_steps
from vroom_api.predictions.refusals import NotFinite, not_finite
from vroom_api.problems import Fault, Problem
from vroom_api.record.prediction import PredictionLog, new_id, new_ids

_encode = msgspec.json.Encoder().encode


def predict_one(champion: Champion, body: bytes, log: PredictionLog | None = None) -> bytes:
    """Answer a JSON object of inputs.

    Raises:
        Problem: 400 for a body that is not JSON, 422 for what the champion cannot answer, 503 if it has expired.
    """
    chosen = answering(champion, body)
    try:
        return predict_asked(chosen.version, chosen.asked, log)
    except NotFinite:
        if chosen.version is champion:
            raise
    return predict_asked(champion, chosen.by_champion, log)


def predict_asked(champion: Champion, asked: Asked, log: PredictionLog | None = None) -> bytes:
    """Answer a request that was read.

    Raises:
        Problem: 422 for what the champion cannot answer, 503 if it has expired.
    """
    predictions, features = score(champion, np.array([asked.row], dtype=np.float64))
    return answer_one(champion, asked, predictions.item(), features[0].tolist(), log)


def answer_one(
    champion: Champion, asked: Asked, prediction: float, features: list[float], log: PredictionLog | None
) -> bytes:
    """The JSON that answers one request, whose row was scored, maybe together with others.

    Raises:
        Problem: 422 without a finite prediction or reasons, 503 if the champion has expired.
    """
    inside = within(champion.limits, [*asked.row, *features])
    identifier = msgspec.UNSET if log is None else new_id()
    answer = _answer(champion, admitted(champion), asked, prediction, features, inside, identifier)
    if asked.explain:
        answer = _with_reasons(champion, asked, answer)
    if log is not None:
        _log(champion, log, asked, features, answer)
    return _encode(answer)


class Batch(NamedTuple):
    """The answers to a batch."""

    content: bytes  # JSON
    by_version: Counter[int]  # rows
    handed_back: int = 0  # rows of them that the second version had no finite number for


def predict_many(champion: Champion, body: bytes, largest: int, log: PredictionLog | None = None) -> Batch:
    """Answer a JSON array of 1 to `largest` objects, in its order; all or nothing.

    Raises:
        Problem: as for one.
    """
    return finish(predict_in_steps(champion, body, largest, log))


def predict_in_steps(
    champion: Champion, body: bytes, largest: int, log: PredictionLog | None = None
) -> Steps[Batch]:
    """As `predict_many`, with rests.

    Raises:
        Problem: as for one.
    """
    chosen = yield from answering_in_steps(champion, body, largest)
    handed_back = 0
    if chosen.second is None:
        answers = yield from _answers_in_steps(champion, chosen.asked, log)
        by_version = Counter({champion.version: len(answers)})
    else:
        answers, by_version = yield from _answers_of_both(champion, chosen.second, chosen, log)
        handed_back = len(chosen.positions) - by_version[chosen.second.version]
    encoded: list[bytes] = []
    for piece in slices(len(answers)):
        encoded.append(_encode(answers[piece])[1:-1])
        yield
    return Batch(b"[" + b",".join(encoded) + b"]", by_version, handed_back)


def _answers_of_both(
    champion: Champion, second: Champion, chosen: ChosenRows, log: PredictionLog | None
) -> Steps[tuple[list[Any], Counter[int]]]:
    """What two versions answer to a batch; the champion also the rows that the second has no finite number for.

    Raises:
        Problem: as for one.
    """
    answers: list[Any] = [None] * len(chosen.asked)
    made = yield from _answers_in_steps(second, chosen.for_second, log, may_lack=True)
    for at, one in zip(chosen.positions, made, strict=True):
        answers[at] = one
    rest = [at for at, one in enumerate(answers) if one is None]
    if rest:
        made = yield from _answers_in_steps(champion, [chosen.asked[at] for at in rest], log)
        for at, one in zip(rest, made, strict=True):
            answers[at] = one
    return answers, Counter({second.version: len(answers) - len(rest), champion.version: len(rest)})


def _answers_in_steps(
    champion: Champion, asked: list[Asked], log: PredictionLog | None, *, may_lack: bool = False
) -> Steps[list[Any]]:
    """What one version answers to rows, in their order.

    Args:
        may_lack: whether a row without a finite number has the answer None, and is not logged.

    Raises:
        Problem: as for one.
    """
    ages = admitted(champion)
    rows = np.array([one.row for one in asked], dtype=np.float64)
    predictions, features = score(champion, rows)
    yield
    inside = supported(champion.manifest, rows, features).tolist()
    listed = features.tolist()
    ids: Sequence[str | msgspec.UnsetType]
    ids = [msgspec.UNSET] * len(asked) if log is None else new_ids(len(asked))
    # All rows are answered before the first is explained, and all are explained before the first is logged:
    # a row without an answer is refused at once, and a latency holds the whole batch.
    answers: list[Any] = []
    answer_to = _answer_if_any if may_lack else _answer
    for part in slices(len(asked)):
        answers += [
            answer_to(champion, ages, one, prediction, row, within_limits, identifier)
            for one, prediction, row, within_limits, identifier in zip(
                asked[part], predictions[part].tolist(), listed[part], inside[part], ids[part], strict=True
            )
        ]
        yield
    for at, one in enumerate(asked):
        if one.explain and answers[at] is not None:
            answers[at] = _with_reasons(champion, one, answers[at])
    if log is None:
        return answers
    logged = answers
    if may_lack:
        known = [at for at, answer in enumerate(answers) if answer is not None]
        logged, asked, listed = ([every[at] for at in known] for every in (answers, asked, listed))
    for part in slices(len(logged)):
        group = logged[part]
        log.extend(
            champion.origin,
            [answer.prediction_id for answer in group],
            [one.row for one in asked[part]],
            listed[part],
            [(answer.value, answer.interval) for answer in group],
            [(one.entity_id, one.tags) for one in asked[part]],
        )
        yield
    return answers


def _answer_if_any(*given: Any) -> Any:
    """As `_answer`; None where there is no finite number."""
    try:
        return _answer(*given)
    except NotFinite:
        return None


def _answer(
    champion: Champion,
    ages: Ages,
    asked: Asked,
    prediction: float,
    features: list[float],
    inside: bool,
    identifier: str | msgspec.UnsetType,
) -> Any:
    """The answer to one row, without reasons.

    Args:
        inside: whether the row and its features are in support.
        identifier: under which it is logged.

    Raises:
        Problem: the prediction, or a feature that is read for it, is not finite, 422.
    """
    manifest = champion.manifest
    fallback = manifest.fallback_of(asked.row)
    if not (
        math.isfinite(prediction)
        and (all(map(math.isfinite, features)) or _are_known(manifest, fallback, asked, features))
    ):
        raise not_finite(manifest, asked.row, features, asked.number)
    unsupported = [] if inside else out_of_range(manifest, asked.row, features)
    answer = champion.answer(
        prediction,
        (fallback or manifest).calibration.interval(prediction, asked.level),
        not unsupported,
        unsupported,
        ages.freshness,
        ages.data_age_s,
        ages.model_age_s,
        prediction_id=identifier,
        stored=asked.filled,
        unattended_since=champion.attendance.unattended_since or msgspec.UNSET,
    )
    return answer if fallback is None else replace(answer, fallback=fallback.description)


def _are_known(manifest: Manifest, fallback: Fallback | None, asked: Asked, features: list[float]) -> bool:
    """Whether all features that are read are numbers, or missing for want of an input that may be left out."""
    left_out = {
        field.name for field, value in zip(manifest.inputs, asked.row, strict=True) if math.isnan(value)
    }
    return all(
        field.is_known(value, left_out)
        for field, value in zip(manifest.features, features, strict=True)
        if fallback is None or field.name in fallback.recipe.features
    )


def _with_reasons(champion: Champion, asked: Asked, answer: Any) -> Any:
    return replace(answer, reasons=reasons_of(champion, asked.row))


def _log(champion: Champion, log: PredictionLog, asked: Asked, features: list[float], answer: Any) -> None:
    """Log an answer under its id."""
    log.add(
        answer.prediction_id,
        champion.origin,
        asked.row,
        features,
        answer.value,
        answer.interval,
        asked.entity_id,
        asked.tags,
    )


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
