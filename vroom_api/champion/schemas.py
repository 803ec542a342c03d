"""What a champion takes and answers, as types made from its manifest."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from vroom_api.champion.freshness import Verdict
from vroom_api.contract import BundleError, InputField, Manifest, unfit_inputs
from vroom_api.contract.intervals import DEFAULT_LEVEL, MAX_LEVEL, MIN_LEVEL, Interval
from vroom_api.contract.times import TIME
from vroom_api.explanation.reasons import Explanation
from vroom_api.explanation.support import OutOfRange
from vroom_api.record.prediction import EntityId, Tags

LONGEST_TEXT = 500  # characters of a text that may be any
EXACT_INTEGER = 2**53 - 1  # beyond it two integers may be one float64 (RFC 7493 section 2.2)


class FilledInputs(msgspec.Struct, frozen=True, gc=False):
    """Inputs that a request left out, and when what is stored of them was known."""

    as_of: str
    inputs: list[str]


def request_type(manifest: Manifest) -> type[msgspec.Struct]:
    """The type of one request: inputs bounded as declared, then the options; nothing else is accepted.

    Raises:
        BundleError: the manifest's inputs make no request.
    """
    _check_names(manifest)
    # Whether an input may be left out depends on the entity that is named.
    fields: list[Any] = [
        (
            f"input{index}",
            (_bounded(field) | None if field.nullable else _bounded(field)) | msgspec.UnsetType,
            msgspec.UNSET,
        )
        for index, field in enumerate(manifest.inputs)
    ]
    level = Annotated[
        float,
        msgspec.Meta(
            ge=MIN_LEVEL,
            le=MAX_LEVEL,
            description="confidence of the interval"
            if manifest.kind == "binary"
            else "probability that the interval holds the outcome",
        ),
    ]
    explained = Annotated[bool, msgspec.Meta(description="whether to give reasons")]
    entity = Annotated[
        EntityId,
        msgspec.Meta(
            description="its id; recorded with the prediction. Inputs that are left out are filled with "
            "what is stored for it"
        ),
    ]
    examples = f", e.g. {' and '.join(manifest.tags)}" if manifest.tags else ""
    tags = Annotated[
        Tags,
        msgspec.Meta(
            description=f"labels to group predictions by{examples}; recorded, without effect on the prediction"
        ),
    ]
    # Attributes are numbered, so that an input may have any name.
    return msgspec.defstruct(
        "Request",
        [
            *fields,
            ("level", level, DEFAULT_LEVEL),
            ("explain", explained, False),
            ("entity_id", entity | None, None),
            ("tags", tags | None, None),
        ],
        rename={f"input{index}": field.name for index, field in enumerate(manifest.inputs)},
        frozen=True,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _check_names(manifest: Manifest) -> None:
    names = [field.name for field in manifest.inputs]
    unfit = unfit_inputs(names)
    if unfit or not names:
        raise BundleError(
            f"input names are missing, repeated or reserved: {', '.join(unfit) or 'there are no inputs'}"
        )
    for question, lever in manifest.advice.items():
        if lever.input not in names:
            raise BundleError(f"advice about {question}: its lever {lever.input} is not one of the inputs")


def answer_type(
    manifest: Manifest, provisional: Sequence[str] = (), calibration: int | None = None
) -> type[msgspec.Struct]:
    """The type of one answer; what does not change between requests is in its defaults.

    Args:
        provisional: the gates that it serves without having passed.
        calibration: the number of the revision that corrects it.
    """
    interval = _INTERVAL_OF_PROBABILITY if manifest.kind == "binary" else _INTERVAL
    return msgspec.defstruct(
        "Answer",
        [
            ("value", Annotated[float, msgspec.Meta(description=_expected(manifest))]),
            ("interval", Annotated[Interval, interval]),
            ("in_support", Annotated[bool, _IN_SUPPORT]),
            ("outside", Annotated[list[OutOfRange], _OUTSIDE]),
            ("freshness", Annotated[Verdict, _FRESHNESS]),
            ("data_age_s", Annotated[int | None, _DATA_AGE]),
            ("model_age_s", Annotated[int, _MODEL_AGE]),
            ("reasons", Annotated[Explanation, _REASONS] | msgspec.UnsetType, msgspec.UNSET),
            ("model_version", Annotated[int, _VERSION], manifest.version),
            ("calibration", Annotated[int | None, _CALIBRATION], calibration),
            ("horizon", Annotated[str, _HORIZON], manifest.horizon),
            ("data_as_of", Annotated[str, _DATA_AS_OF], manifest.data_as_of),
            (
                "provisional",
                Annotated[str, _PROVISIONAL] | msgspec.UnsetType,
                "; ".join(provisional) or msgspec.UNSET,
            ),
            ("prediction_id", Annotated[str, _PREDICTION_ID] | msgspec.UnsetType, msgspec.UNSET),
            ("stored", Annotated[FilledInputs, _STORED] | msgspec.UnsetType, msgspec.UNSET),
            ("unattended_since", Annotated[str, _UNATTENDED] | msgspec.UnsetType, msgspec.UNSET),
            *(
                [("fallback", Annotated[str, _FALLBACK] | msgspec.UnsetType, msgspec.UNSET)]
                if manifest.fallback
                else []
            ),
        ],
        rename={"value": f"predicted_{manifest.target}"},
        frozen=True,
        gc=False,
    )


class Bounds(msgspec.Struct, frozen=True):
    """What a request may send for one input; at most one of the lower bounds is set."""

    minimum: float | None
    above: float | None
    maximum: float | None

    def allow(self, value: float) -> bool:
        """Whether a number is within them; NaN is not."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
        )


def bounds_of(field: InputField) -> Bounds:
    """The declared range; that of an integer ends where float64 would skip some."""
    minimum, above, maximum = field.minimum, field.above, field.maximum
    if field.type == "integer":
        lowest = math.ceil(minimum) if minimum is not None else -EXACT_INTEGER
        if above is not None:
            lowest = max(lowest, math.floor(above) + 1)
        highest = math.floor(maximum) if maximum is not None else EXACT_INTEGER
        return Bounds(lowest, None, highest)
    if minimum is not None and above is not None:
        minimum, above = (minimum, None) if minimum > above else (None, above)
    return Bounds(minimum, above, maximum)


def describe(manifest: Manifest) -> str:
    """What the number is, in a sentence."""
    if manifest.kind == "binary":
        return f"{_expected(manifest)}, from 0 to 1, of a {manifest.entity}: {manifest.horizon}"
    return f"{manifest.unit} of a {manifest.entity} in {manifest.horizon}"


def _expected(manifest: Manifest) -> str:
    if manifest.kind != "binary":
        return f"expected {manifest.unit}"
    return manifest.unit if "probability" in manifest.unit else f"probability of {manifest.unit}"


_INTERVAL = msgspec.Meta(description="holds the outcome with the probability asked for")

_INTERVAL_OF_PROBABILITY = msgspec.Meta(
    description="holds the share of yes among predictions like this one, with the confidence asked for"
)

_IN_SUPPORT = msgspec.Meta(description="whether it is within the range seen in training")
_OUTSIDE = msgspec.Meta(description="the inputs and features outside the range seen in training")
_FRESHNESS = msgspec.Meta(
    description="the worse of the verdicts on the ages of model and data; unlimited where no limit is declared for either"
)
_DATA_AGE = msgspec.Meta(description="seconds since the latest event in the training data")
_MODEL_AGE = msgspec.Meta(description="seconds since the training")
_REASONS = msgspec.Meta(
    description="what each input adds to the prediction, where reasons were asked for; with `approximation` where the "
    "amounts are sampled, because the champion reads too many inputs for exact ones"
)
_VERSION = msgspec.Meta(description="version of the champion that answered")
_CALIBRATION = msgspec.Meta(
    description="number of the revision by which outcomes have corrected the interval, or the probability; null where "
    "none is in force"
)
_HORIZON = msgspec.Meta(description="the period that the number covers")
_PREDICTION_ID = msgspec.Meta(description="id of the recorded prediction; absent where no record is kept")

_STORED = msgspec.Meta(
    description="inputs that the request left out, filled with what is stored for the entity"
)

_UNATTENDED = msgspec.Meta(
    description="when the sources were last checked, where the next check is overdue: no newer model is on its way"
)

_PROVISIONAL = msgspec.Meta(
    description="present where the champion, the first of its forecast, serves without having passed all gates: which, "
    "and by how much"
)
_FALLBACK = msgspec.Meta(description="why the fallback answered instead of the usual model")
_DATA_AS_OF = msgspec.Meta(description="time of the latest event in the training data")


def _bounded(field: InputField) -> Any:
    bounds = bounds_of(field)
    limits: dict[str, Any] = {"ge": bounds.minimum, "gt": bounds.above, "le": bounds.maximum}
    words = ", in ".join(part for part in (field.description, field.unit) if part and part != "flag")
    if field.is_open:
        meta = msgspec.Meta(
            min_length=1, max_length=LONGEST_TEXT, description=words, examples=[field.decoded(field.example)]
        )
        return Annotated[str, meta]
    if field.type == "text":
        meta = msgspec.Meta(description=words, examples=[field.decoded(field.example)])
        return Annotated[Literal[tuple(field.values)], meta]
    if field.type == "time":
        described = "; ".join(filter(None, (words, "ISO 8601")))
        meta = msgspec.Meta(pattern=TIME, description=described, examples=[field.decoded(field.example)])
        return Annotated[str, meta]
    if field.type == "integer":
        # As JSON Schema has it, 5.0 is an integer too; pandas and R write it so. `schemas_of` describes it.
        return Annotated[
            float, msgspec.Meta(**limits, multiple_of=1, description=words, examples=[round(field.example)])
        ]
    return Annotated[float, msgspec.Meta(**limits, description=words, examples=[field.example])]
