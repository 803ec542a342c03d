"""The commands of `python -m vroom_assets`."""

import sys
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.bundles import EXAMPLE, publish
from tests.support.forecasts import entries
from tests.support.service import settings_of, wait_for
from vroom_api.app import create_app
from vroom_assets.__main__ import main

LAPS = "lap_times"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vroom_assets", *arguments])
        return main()

    return run


def test_a_retired_forecast_is_gone_with_its_reason_and_its_history_stays(
    home: Path, command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(home, 1)
    (tmp_path / "defs").mkdir()
    monkeypatch.setenv("VROOM_DEFS", str(tmp_path / "defs"))  # the declaration was taken away
    with TestClient(create_app(settings_of(home, record=True))) as client:
        identifier = client.post("/predict", json=EXAMPLE).json()["prediction_id"]
        assert command("retire", "reservations", "asked", "for", "no", "longer") == 0
        wait_for(lambda: client.get("/health").json()["status"] == "retired")
        for path in ("/predict", "/forecasts/reservations/predict"):
            gone = client.post(path, json=EXAMPLE)
            assert (gone.status_code, gone.json()["type"]) == (410, "urn:vroom:retired")
            assert "asked for no longer" in gone.json()["detail"]
        assert client.get("/forecasts").json()[0]["status"] == "retired"
        assert "asked for no longer" in client.get("/").text
        assert client.get(f"/predictions/{identifier}").json()["prediction"]["id"] == identifier
        publish(home, 2)
        wait_for(lambda: client.get("/health").json()["status"] == "ok")
        assert client.post("/predict", json=EXAMPLE).status_code == 200
    (entry,) = entries("retirement")
    assert (entry.decision, entry.actor) == ("retired", "command retire")
    assert "asked for no longer" in entry.reason


def test_a_forecast_that_is_still_declared_is_not_retired(
    home: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(home, 1)
    assert command("retire", "reservations", "for fun") == 2
    assert "still declared" in capsys.readouterr().err
    assert entries() == []


@pytest.mark.parametrize("arguments", [("retire",), ("retire", "reservations"), ("retire", "../x", "why")])
def test_retiring_asks_for_a_name_and_a_reason(
    home: Path, command: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert command(*arguments) == 2
    assert "retire <name> <reason>" in capsys.readouterr().err


def test_what_was_never_published_is_not_retired(
    home: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("retire", "nothing_here", "why") == 2
    assert "nothing was ever published" in capsys.readouterr().err


def test_what_was_learnt_is_one_page_and_nothing_stored_is_changed(
    home: Path, command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    publish(home, 1)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert command("explain", "reservations") == 0
    page = capsys.readouterr().out
    assert page.startswith("# Reservations per listing (reservations)\n\n")
    assert "\n## What to try next\n" in page
    assert command("explain", "reservations", "--out", str(tmp_path / "new" / "page.md")) == 0
    assert (tmp_path / "new" / "page.md").read_text() == page
    assert command("explain", "reservations", "--out", str(tmp_path / "page.html")) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_forecast_without_a_champion_is_explained_by_what_to_do(
    home: Path, command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command("explain", "lap_times") == 1
    assert "VROOM_FORECAST=lap_times python -m vroom_assets materialize" in capsys.readouterr().out
    assert command("explain", "lap_times", "--out", str(tmp_path / "page.md")) == 1
    assert "has no champion yet" in (tmp_path / "page.md").read_text()


def test_what_cannot_be_explained_is_refused(
    home: Path, command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command("explain", "nothing_here") == 2
    assert "there is no forecast 'nothing_here'" in capsys.readouterr().err
    assert command("explain", "../x") == 2
    assert "explain <name>" in capsys.readouterr().err
    assert command("explain", "lap_times", "--out", str(tmp_path)) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["materialize", "new", "check", "explain", "retire", "rename", "schema"])
def test_every_command_has_a_help_of_its_own(
    command: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(name, "--help")
    assert ended.value.code == 0
    assert f"usage: python -m vroom_assets {name}" in capsys.readouterr().out


def test_the_help_of_all_names_every_command(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command("--help")
    assert ended.value.code == 0
    output = capsys.readouterr().out
    for name in (
        "materialize",
        "new <name> --from <file>",
        "check [name]",
        "explain <name>",
        "retire <name> <reason>",
        "rename <old> <new>",
        "schema",
    ):
        assert f"python -m vroom_assets {name}" in output


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (
            ("bogus",),
            "choose from 'materialize', 'new', 'check', 'explain', 'score', 'replay', 'rebuild', 'retire', 'rename', 'schema'",
        ),
        (("schema", "more"), "unrecognized arguments: more"),
        (("check", "--dat"), "unrecognized arguments: --dat"),
        (("new",), "required: <name>; use python -m vroom_assets new"),
        (("new", "x", "--kind", "count"), "name them by --from <file> --target <column>"),
        (("new", "x", "--from", "f", "--target", "y", "--kind", "odd"), "'count', 'regression', 'binary'"),
    ],
)
def test_what_is_no_command_is_refused_with_what_would_be_one(
    command: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], remedy: str
) -> None:
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert "Vroom cannot start: unknown command" in error
    assert remedy in error
