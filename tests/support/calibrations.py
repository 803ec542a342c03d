"""Calibration revisions of the small bundles."""

from pathlib import Path
from typing import Any

from vroom_api.contract import MODEL, bundle_folder, calibrations, read_manifest, read_pointer
from vroom_api.contract.bundle import MANIFEST
from vroom_api.contract.calibrations import CalibrationRevision, read_in_force


def revision(home: Path, forecast: str, **given: Any) -> CalibrationRevision:
    """A revision of the version that the pointer names; without a number, which publication gives."""
    pointer = read_pointer(forecast, home)
    assert pointer is not None
    path = bundle_folder(forecast, pointer.version, home) / MANIFEST
    plain: dict[str, Any] = {
        "number": 0,
        "version": pointer.version,
        "model_sha256": read_manifest(path.read_bytes(), str(path)).files[MODEL],
        "made_at": "2026-03-02T00:00:00+00:00",
        "reason": "intervals were too narrow above",
        "outcomes": 400,
        "since": "2026-02-01T00:00:00+00:00",
        "until": "2026-03-01T00:00:00+00:00",
    }
    return CalibrationRevision(**plain | given)


def correct(home: Path, forecast: str, **given: Any) -> CalibrationRevision:
    """Publish one over what is in force."""
    present = read_in_force(forecast, home)
    generation = present.generation if present else 0
    return calibrations.publish(forecast, revision(home, forecast, **given), generation=generation, root=home)


def go_back(home: Path, forecast: str, number: int | None) -> None:
    present = read_in_force(forecast, home)
    assert present is not None
    calibrations.revert(forecast, number, "it was worse", generation=present.generation, root=home)
