"""Two small versions, one of them tried beside the other."""

from pathlib import Path
from typing import Any

from tests.support.bundles import EXAMPLE, FORECAST, NAMES, golden_of, point, publish
from tests.support.tiny import feature_field, model_of
from vroom_api.champion.loading import Champion, load
from vroom_api.contract import Golden, Pointer, Trial, TrialRole, read_pointer
from vroom_api.contract.store import LocalStore

SINCE = "2026-03-01T00:00:00.000+00:00"
TRIAL = f"/forecasts/{FORECAST}/trial"


def put_beside(home: Path, version: int, **given: Any) -> None:
    """Keep a version without letting it serve: version 1 does, and still has the generation that it had or a later one."""
    served = read_pointer(FORECAST, home)
    publish(home, version, **given)
    point(home, served.version if served else 1)


def trial_of(home: Path, version: int, role: TrialRole, share: float = 0.1, since: str = SINCE) -> Trial:
    digest = LocalStore(home).digest(FORECAST, version)
    return Trial(version=version, manifest_sha256=digest, role=role, share=share, since=since, by="ann")


def try_out(home: Path, version: int, role: TrialRole, share: float = 0.1, since: str = SINCE) -> Pointer:
    """Let the pointer say that a version is tried."""
    store, pointer = LocalStore(home), read_pointer(FORECAST, home)
    assert pointer is not None
    return store.set_trial(FORECAST, trial_of(home, version, role, share, since), pointer.generation)


def tried_champion(home: Path, role: TrialRole, share: float = 0.1, **given: Any) -> Champion:
    """Version 1 with version 2 beside it; `given` are parts of version 2."""
    publish(home, 1)
    put_beside(home, 2, **given)
    try_out(home, 2, role, share)
    champion = load(FORECAST, home)
    assert champion is not None
    return champion


def per_photo() -> dict[str, Any]:
    """Of a version that has no finite number for a vehicle without photos: prediction = 100 / num_images."""
    rows = golden_of(1.0).inputs
    numbers = [100.0 / float(row[NAMES.index("num_images")] or 0.0) for row in rows]
    return {
        "features": [feature_field("per_photo", "100 / num_images", ["num_images"], 1, 100)],
        "model": model_of(NAMES, [("per_photo", "Div", 100.0, "num_images")], ["per_photo"]),
        "golden": Golden(
            inputs=rows, features=[[one] for one in numbers], predictions=numbers, tolerance=1e-6
        ),
    }


def listing(entity: object, **given: Any) -> dict[str, Any]:
    return EXAMPLE | {"entity_id": str(entity)} | given
