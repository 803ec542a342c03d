"""Entities as callers see them: one shape for those of the sources and those that were saved."""

from datetime import datetime
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

import msgspec

from vroom_api.champion.fleet import FleetPrediction
from vroom_api.contract import Manifest
from vroom_api.contract.fleet import FleetRun
from vroom_api.contract.saved_entities import CSV, SERVICE, SavedEntity

Row = TypeVar("Row")
Source = Literal["csv", "service"]
Inputs = dict[str, float | str | None]

_MATERIALIZED = msgspec.Meta(description="whether the training has it as it is now")
_OBSERVED = msgspec.Meta(
    description="the target that was observed of it, by name; null of a new arrival; empty where nothing serves"
)
_PREDICTED = msgspec.Meta(
    description="the champion's answer when all entities were predicted last; null of one that is newer. POST /predict/id is "
    "of now"
)
_REVISION = msgspec.Meta(description="1, then one more with every change; null of one from the sources")


class FleetAnswer(msgspec.Struct, frozen=True):
    """What a champion answered to what is stored of an entity, when all entities were predicted last."""

    value: float
    low: float
    high: float
    level: float  # of the interval from low to high
    model_version: int
    predicted_at: str
    reasons: Annotated[
        dict[str, float] | msgspec.UnsetType | None,
        msgspec.Meta(
            description="what each input adds; null where there are too many entities for reasons, absent in lists"
        ),
    ] = msgspec.UNSET


class EntityRow(msgspec.Struct, frozen=True):
    """What is stored of an entity."""

    id: str
    source: Annotated[Source, msgspec.Meta(description="csv: of the sources; service: saved over HTTP")]
    inputs: Inputs
    tags: dict[str, str]
    as_of: Annotated[str, msgspec.Meta(description="when its inputs were known")]
    materialized: Annotated[bool, _MATERIALIZED]
    observed: Annotated[dict[str, float | None], _OBSERVED]
    revision: Annotated[int | None, _REVISION]
    changed_at: datetime | None
    materialized_at: datetime | None
    predicted: Annotated[FleetAnswer | None, _PREDICTED]


class EntityPage(msgspec.Struct, frozen=True):
    """Some entities, in the byte order of their ids; `next_after` asks for the page after it, null at the end.

    A page of a search may have fewer entities than its limit, and none: then it ended after so many ids.
    """

    entities: list[EntityRow]
    next_after: str | None
    total: Annotated[
        int | None,
        msgspec.Meta(
            description="of all entities, on the first page of all; else, and where they are all in the database, null"
        ),
    ]


class StorePage(NamedTuple, Generic[Row]):
    """Some rows of one store, by id, and the last id that was scanned for them; None where that was all."""

    rows: list[Row]
    end: str | None


class SavedRow(EntityRow, frozen=True):
    """An entity after it was saved, and what that changed."""

    status: Literal["created", "replaced", "unchanged"]


class DeletedRow(msgspec.Struct, frozen=True):
    """An entity that is not found any more."""

    id: str
    status: Literal["deleted"]
    revision: int
    deleted_at: datetime


class EntityFeatures(msgspec.Struct, frozen=True):
    """The features that the champion computes from what is stored of an entity."""

    id: str
    source: Source
    as_of: str
    materialized: Annotated[bool, _MATERIALIZED]
    model_version: int
    features: Annotated[
        dict[str, float | None] | None,
        msgspec.Meta(description="null where the stored inputs are not those that the champion takes"),
    ]
    trouble: Annotated[str | None, msgspec.Meta(description="why there are none")]


class FeaturePage(msgspec.Struct, frozen=True):
    """The features of some entities; `next_after` as in a page of entities."""

    entities: list[EntityFeatures]
    next_after: str | None


def row_of(saved: SavedEntity, manifest: Manifest | None) -> EntityRow:
    """A row of the table as callers see it."""
    is_saved = saved.source == SERVICE
    return EntityRow(
        id=saved.id,
        source=SERVICE if is_saved else CSV,
        inputs=saved.inputs,
        tags=saved.tags,
        as_of=saved.as_of,
        materialized=saved.is_materialized,
        observed=observed_of(saved.observed, manifest),
        revision=saved.revision if is_saved else None,
        changed_at=saved.updated_at if is_saved else None,
        materialized_at=saved.materialized_at,
        predicted=None,
    )


def answer_of(run: FleetRun, found: FleetPrediction, *, with_reasons: bool) -> FleetAnswer:
    """A fleet prediction as callers see it."""
    amounts = None if found.reasons is None else {one.input: one.amount for one in found.reasons}
    return FleetAnswer(
        found.value,
        found.low,
        found.high,
        run.level,
        run.version,
        run.predicted_at,
        amounts if with_reasons else msgspec.UNSET,
    )


def observed_of(value: float | None, manifest: Manifest | None) -> dict[str, float | None]:
    return {} if manifest is None else {manifest.target: value}
