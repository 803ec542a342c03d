"""Advice about an input that its owner may set, asked in JSON and answered in JSON."""

from typing import Annotated, Any

import msgspec
import numpy as np

from vroom_api.champion.freshness import Verdict
from vroom_api.champion.loading import Champion, score
from vroom_api.contract import OPTIONS
from vroom_api.contract.decoding import convert
from vroom_api.explanation.advice import DEFAULT_POINTS, MAX_POINTS, MIN_POINTS, Curve, NoAdvice, advise
from vroom_api.predictions.answered import admitted
from vroom_api.predictions.asked import Asked, asked_of
from vroom_api.predictions.refusals import faults, refusal
from vroom_api.problems import Fault, Problem

Bound = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request may ask for, beside the inputs and options of /predict."""

    points: Annotated[
        int,
        msgspec.Meta(
            ge=MIN_POINTS, le=MAX_POINTS, description="of the curve; fewer where the range holds fewer"
        ),
    ] = DEFAULT_POINTS
    between: Annotated[
        tuple[Bound, Bound] | None,
        msgspec.Meta(description="part of the lever's range that the curve covers; all of it when not given"),
    ] = None
    extrapolate: Annotated[
        bool, msgspec.Meta(description="show points outside the range seen in training as well, flagged")
    ] = False


_OPTIONS = (*OPTIONS, *Options.__struct_fields__)


class Advice(msgspec.Struct, frozen=True):
    """A curve, and the champion that drew it."""

    model_version: int
    calibration: int | None  # the revision that corrects its bands; null where none is in force
    horizon: str
    data_as_of: str
    data_age_s: int | None
    model_age_s: int
    freshness: Verdict
    curve: Curve


def answer_question(champion: Champion, question: str, body: bytes, folder: str = "/advise/") -> bytes:
    """Answer a JSON object of inputs and options; `folder` is the path that questions are asked under.

    Raises:
        Problem: 404 for a question that is not declared, 400 for a body that is not JSON, 422 for what has no
            curve, 503 for an expired champion.
    """
    manifest = champion.manifest
    if question not in manifest.advice:
        declared = ", ".join(f"{folder}{name}" for name in manifest.advice) or "none"
        raise Problem(
            404, "no-such-advice", f"{manifest.forecast} declares no advice {question!r}; there is {declared}"
        )
    asked, options = decode(champion, body)
    ages = admitted(champion)
    try:
        curve = advise(
            lambda rows: score(champion, rows),
            manifest,
            manifest.advice[question],
            np.array(asked.row, dtype=np.float64),
            level=asked.level,
            **msgspec.structs.asdict(options),
        )
    except NoAdvice as error:
        raise Problem(422, "no-advice", str(error)) from error
    return msgspec.json.encode(
        Advice(
            model_version=manifest.version,
            calibration=champion.origin.calibration,
            horizon=manifest.horizon,
            curve=curve,
            **msgspec.structs.asdict(ages),
        )
    )


def decode(champion: Champion, body: bytes) -> tuple[Asked, Options]:
    """What a body asks for, and its options; a body of /predict will do.

    Raises:
        Problem: 400 or 422, with all faults.
    """
    manifest = champion.manifest
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(manifest, body, error) from None
    given: dict[str, Any] = {}
    if isinstance(content, dict):
        given = {name: content.pop(name) for name in Options.__struct_fields__ if name in content}
    try:
        request = convert(content, champion.request)
        options = convert(given, Options)
    except msgspec.ValidationError as error:
        found = faults(manifest, content, options=_OPTIONS) or [Fault(_field(error), str(error))]
        raise Problem(
            422, "invalid-input", "; ".join(fault.detail for fault in found), faults=found
        ) from None
    return asked_of(champion, request), options


def _field(error: msgspec.ValidationError) -> str:
    """The option that a message ends with, as in "… - at `$.points`"."""
    return str(error).rpartition("`$.")[2].rstrip("`")
