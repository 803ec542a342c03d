"""Answers about what is around a prediction, for the OpenAPI document: entities, commands, trials and stores."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from vroom_api.champion.descriptions import TriedVersion
from vroom_api.contract import FreshnessPolicy, TrialRole
from vroom_api.contract.commands import Kind, State
from vroom_api.contract.trials import TrialVerdict
from vroom_api.entities.rows import (
    DeletedRow,
    EntityFeatures,
    EntityPage,
    EntityRow,
    FeaturePage,
    FleetAnswer,
    SavedRow,
)
from vroom_api.record.inventory import FeatureView, Stores, StoreState
from vroom_api.record.trials import Judgement, Traffic
from vroom_api.routes.commands import Commands, FollowedCommand

_FORECAST: Final = "reservations"
_NOW: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
_INPUTS: Final[dict[str, float | str | None]] = {
    "technology": 1,
    "actual_price": 67.85,
    "recommended_price": 59,
    "num_images": 5,
    "street_parked": 0,
    "description": 7,
}
_ANSWER: Final = FleetAnswer(
    value=4.2,
    low=1,
    high=9,
    level=0.9,
    model_version=3,
    predicted_at="2026-03-02T04:00:41+00:00",
    reasons={"actual_price": -0.8, "num_images": 0.5},
)
_ROW: Final = EntityRow(
    id="7",
    source="csv",
    inputs=_INPUTS,
    tags={},
    as_of="2026-02-28T23:59:00",
    materialized=True,
    observed={"reservations": 3},
    revision=None,
    changed_at=None,
    materialized_at=None,
    predicted=_ANSWER,
)
_SAVED: Final = SavedRow(
    id="example",
    source="service",
    inputs=_INPUTS,
    tags={},
    as_of=_NOW.isoformat(),
    materialized=False,
    observed={"reservations": None},
    revision=1,
    changed_at=_NOW,
    materialized_at=None,
    predicted=None,
    status="created",
)
_FEATURES: Final = EntityFeatures(
    id="7",
    source="csv",
    as_of="2026-02-28T23:59:00",
    materialized=True,
    model_version=3,
    features={"num_images": 5, "log_price_ratio": 0.139745},
    trouble=None,
)
_COMMAND: Final = FollowedCommand(
    id="01956f2c-3b5a-7c41-9a70-5d1c2f0b6e12",
    forecast=_FORECAST,
    kind=Kind.TRAIN,
    arguments={},
    caller="ann",
    requested_at=_NOW,
    state=State.SUCCEEDED,
    message="version 4 serves: better by 2.1 % of the champion's error, with 97 % confidence",
    taken_at=_NOW + timedelta(seconds=4),
    run_id="4be1…",
    finished_at=_NOW + timedelta(seconds=41),
    run_url="http://127.0.0.1:3000/runs/4be1…",
)
# By the name of the schema.
OPERATION_SAMPLES: Final[dict[str, msgspec.Struct]] = {
    "Commands": Commands([_COMMAND], None),
    "DeletedRow": DeletedRow("example", "deleted", 2, _NOW),
    "EntityFeatures": _FEATURES,
    "EntityPage": EntityPage(
        [msgspec.structs.replace(_ROW, predicted=msgspec.structs.replace(_ANSWER, reasons=msgspec.UNSET))],
        "7",
        1_000,
    ),
    "EntityRow": _ROW,
    "FeaturePage": FeaturePage([_FEATURES], "7"),
    "FollowedCommand": _COMMAND,
    "SavedRow": _SAVED,
    "Stores": Stores(
        _FORECAST,
        [
            StoreState(
                name="online",
                what="latest inputs of every entity, for requests by id",
                kind="sqlite",
                available=True,
                path="reservations/entities.db",
                bytes=417_792,
                rows=1_000,
                last_modified=_NOW,
                pending=1,
            )
        ],
        FeatureView(
            name="reservations_features",
            entity="vehicle",
            key="entity_id",
            inputs=list(_INPUTS),
            features=["num_images", "log_price_ratio"],
            target="reservations",
            unit="reservations",
            horizon="one calendar year",
            data_version="5b1e…",
            data_as_of="2026-02-28T23:59:00",
            freshness=FreshnessPolicy(),
        ),
    ),
    "Traffic": Traffic(
        forecast=_FORECAST,
        champion=3,
        generation=6,
        trial=TriedVersion(4, TrialRole.SPLIT, 0.1, _NOW.isoformat(), "ann", "9f2c…"),
        loaded=True,
        trouble=None,
        judgement=Judgement(
            TrialVerdict.OPEN,
            "version 4 beside version 3: mean loss 2.04 against 2.11 on the same 380 requests whose outcomes are known",
            380,
            _NOW,
            {"loss": 2.04, "champion_loss": 2.11},
        ),
    ),
}
