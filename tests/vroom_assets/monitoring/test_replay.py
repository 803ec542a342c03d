"""What another version would have answered, before it answers anybody."""

import json
import sys
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, FORECAST, inputs, manifest, publish
from tests.support.service import settings_of
from tests.support.tiny import input_field
from vroom_api.app import create_app
from vroom_api.contract import read_pointer
from vroom_api.contract.tables import serving_database
from vroom_assets.__main__ import main
from vroom_assets.champion.versions import version_of
from vroom_assets.monitoring.replay import NothingRecorded, described, replay

IMAGES = (1, 5, 8, 12, 20)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vroom_assets", *arguments])
        return main()

    return run


@pytest.fixture
def asked(home) -> list[dict[str, Any]]:
    """Five requests that version 1 has answered."""
    publish(home, 1)
    with TestClient(create_app(settings_of(home, record=True))) as client:
        return [client.post("/predict", json=EXAMPLE | {"num_images": images}).json() for images in IMAGES]


def replayed(version: int, last: int = 1000):
    with serving_database() as engine:
        return replay(engine, FORECAST, version_of(FORECAST, version), last)


def test_the_version_that_answered_changes_nothing(asked):
    found = replayed(1)
    assert (found.requests, found.answered, found.changed, found.refused) == (5, 5, 0.0, 0)
    assert (found.mean_difference, found.largest_difference, found.width_ratio) == (0.0, 0.0, 1.0)
    assert found.worst == []


def test_another_version_is_measured_by_its_differences(home, asked):
    publish(home, 2, scale=1.5)
    found = replayed(2)
    values = np.array([one["predicted_reservations"] for one in asked])
    assert found.changed == 1.0
    assert found.answered_by == {"1": 5}
    assert found.mean_difference == pytest.approx(0.5 * values.mean())
    assert found.largest_difference == pytest.approx(0.5 * values.max())
    assert found.quantiles["0.5"] == pytest.approx(0.5 * np.median(values))
    assert found.width_ratio > 1
    assert [row.inputs["num_images"] for row in found.worst] == [20, 12, 8, 5, 1]
    assert found.numbers["mean_difference"] == found.mean_difference


def test_inputs_that_are_new_or_taken_no_more_are_named(home, asked):
    without = [field for field in inputs() if field.name != "description"]
    seats = input_field("seats", 1, 9)
    publish(home, 2, model=None, inputs=[*without, seats])
    found = replayed(2)
    assert (found.answered, found.refused, found.dropped_inputs) == (0, 5, ["description"])
    assert "seats" in found.refusals[0].reason
    assert (found.mean_difference, found.quantiles, found.worst) == (None, {}, [])
    assert "takes no more       description" in "\n".join(described(found))


def test_without_a_record_there_is_nothing_to_replay(home):
    publish(home, 1)
    with pytest.raises(NothingRecorded, match="nothing to replay"):
        replayed(1)


def test_the_command_prints_it_and_changes_nothing_that_serves(home, asked, command, capsys):
    publish(home, 2, scale=1.5)
    before = read_pointer(FORECAST)
    assert command("replay", FORECAST, "--version", "2", "--last", "3") == 0
    printed = capsys.readouterr().out
    assert "the latest 3 recorded requests (3 by version 1), answered by version 2" in printed
    assert "changed             100.0% of the 3" in printed
    assert "would refuse        0" in printed
    assert asked[-1]["prediction_id"] in printed
    assert command("replay", FORECAST, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["requests"], found["changed"]) == (2, 5, 1.0)
    assert read_pointer(FORECAST) == before
    assert len(recorded_ids()) == 5


def recorded_ids() -> list[str]:
    from vroom_assets.scoring.recorded import latest_requests

    with serving_database() as engine:
        return list(latest_requests(engine, FORECAST, 100).ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--version", "7"), "version 7 never served"),
        (("--version", "0"), "is not a whole number from 1 on"),
        (("--last", "many"), "is not a whole number from 1 on"),
    ],
)
def test_what_cannot_be_replayed_says_why(home, asked, command, capsys, arguments, message):
    assert command("replay", FORECAST, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_name_that_is_none_is_refused(home, command, capsys):
    assert command("replay", "../x") == 2
    assert command("rebuild", "../x") == 2
    assert capsys.readouterr().err.count("is not the name of a forecast") == 2


def test_the_manifest_names_the_unit(asked):
    assert replayed(1).unit == manifest(1).unit
