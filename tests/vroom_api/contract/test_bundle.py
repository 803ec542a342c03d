"""What one version writes, another reads: fields come and go, meanings do not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import FORECAST, publish
from vroom_api.contract import (
    FORMAT,
    MANIFEST,
    OLDEST_FORMAT,
    POINTER,
    BundleError,
    bundle_folder,
    forecast_folder,
    read_manifest,
    read_pointer,
)


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    """A published manifest, as JSON."""
    publish(tmp_path, 1)
    found: dict[str, Any] = json.loads((bundle_folder(FORECAST, 1, tmp_path) / MANIFEST).read_bytes())
    return found


def read(manifest: dict[str, Any]) -> Any:
    return read_manifest(json.dumps(manifest).encode(), "manifest.json")


def test_fields_of_a_later_version_are_passed_over_wherever_they_are(written):
    before = read(written)
    written["minor"] += 1
    written["thrust"] = {"vector": [1, 2]}
    written["inputs"][0]["colour"] = "red"
    written["calibration"]["seed"] = 7
    written["recipe"]["author"] = None
    after = read(written)
    assert after.minor == before.minor + 1
    assert after.inputs == before.inputs
    assert after.calibration == before.calibration


def test_fields_that_an_earlier_version_did_not_write_have_their_defaults(written):
    for name in ("minor", "tags", "fallback", "advice", "background", "freshness"):
        written.pop(name, None)
    found = read(written)
    assert (found.minor, found.tags, found.fallback, found.advice) == (0, [], None, {})


def test_a_field_that_has_to_be_there_is_named(written):
    del written["calibration"]
    with pytest.raises(BundleError, match=r"not a manifest: .*calibration"):
        read(written)


@pytest.mark.parametrize(
    ("format", "remedy"), [(FORMAT + 1, "update it"), (OLDEST_FORMAT - 1, "train again")]
)
def test_another_format_is_refused_also_where_nothing_else_can_be_read(format, remedy):
    words = f"format {format}, this service reads formats {OLDEST_FORMAT} to {FORMAT}; {remedy}"
    with pytest.raises(BundleError, match=words):
        read({"format": format, "everything": "is called otherwise"})


def test_a_pointer_may_say_more_than_is_known(tmp_path):
    publish(tmp_path, 1)
    path = forecast_folder(FORECAST, tmp_path) / POINTER
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"shadow": 4}))
    pointer = read_pointer(FORECAST, tmp_path)
    assert pointer is not None
    assert pointer.version == 1
