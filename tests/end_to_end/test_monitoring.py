"""Damaging drift with outcomes, over HTTP, into a running system: an alarm a minute after the window has closed, at the latest,
then one training with the data that were held back, a contest, and what serves after it."""

import contextlib
import json
import math
import runpy
import shutil
import sqlite3
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.support.project import ROOT, copy
from tests.support.system import NAME, System, wait

pytestmark = pytest.mark.slow

GENERATOR = runpy.run_path(str(ROOT / "data" / NAME / "generate.py"))
WINDOW = 12.0  # seconds
LONGEST = 60.0  # from the end of the window to the alarm


@pytest.fixture
def system(tmp_path) -> Iterator[System]:
    """A system with one quick candidate and windows of seconds."""
    GENERATOR["generate"](tmp_path / "data" / NAME)
    one = System(tmp_path)
    copy(one.project, "vroom_assets", "vroom_api", "pyproject.toml", "workspace.yaml")
    for other in (one.project / "vroom_assets" / "defs").iterdir():
        if other.is_dir() and other.name != NAME:
            shutil.rmtree(other)
    declared = yaml.safe_load(one.declaration.read_text())
    attributes = declared["attributes"]
    attributes["candidates"] = {"glm": attributes["candidates"]["glm"]}
    attributes["monitoring"] = {"window_minutes": WINDOW / 60}
    attributes["retraining"] = {"new_rows": 5.0}  # no change of data is enough by itself
    one.declaration.write_text(yaml.safe_dump(declared))
    one.start()
    yield one
    if one.process and one.process.poll() is None:
        one.stop()


def post(system: System, path: str, body: object) -> list[dict]:
    answer = httpx.post(system.url("api") + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["predictions"] if isinstance(found, dict) and "predictions" in found else found


def serve(system: System, rows: int, price: float, demand: float) -> float:
    """Ask about listings, report what came of them, and return when the last of it was reported."""
    rng = np.random.default_rng(rows)
    found = GENERATOR["draw"](rows, rng)
    caps = GENERATOR["reservation_caps"](found)
    outcomes = np.round(demand * np.floor(rng.random(rows) * (caps + 1)))
    names = ("technology", "recommended_price", "num_images", "street_parked", "description")
    listings = [
        {name: int(found[name][n]) for name in names}
        | {"actual_price": round(float(found["actual_price"][n]) * price, 2)}
        for n in range(rows)
    ]
    answers = post(system, "/predict/batch", listings)
    reported = [
        {"prediction_id": answer["prediction_id"], "value": float(outcome)}
        for answer, outcome in zip(answers, outcomes, strict=True)
    ]
    post(system, "/outcomes", reported)
    return time.time()


def change_data(system: System, price: float, demand: float) -> None:
    """The same change in the CSVs: what a training would learn from."""
    folder = system.folder / "data" / NAME
    vehicles = pd.read_csv(folder / "vehicles.csv")
    vehicles["actual_price"] = (vehicles["actual_price"] * price).round(2)
    reservations = pd.read_csv(folder / "reservations.csv")
    kept = reservations.sample(frac=demand, random_state=1).sort_index()
    for name, frame in {"vehicles": vehicles, "reservations": kept}.items():
        frame.to_csv(folder / f".{name}.csv", index=False)
        (folder / f".{name}.csv").replace(folder / f"{name}.csv")


def rows_of(system: System, query: str) -> list[sqlite3.Row]:
    with contextlib.closing(sqlite3.connect(system.folder / "home" / "serving.db")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query).fetchall()


def test_damaging_drift_with_outcomes_is_an_alarm_within_a_minute_and_then_one_training(system):
    wait("a sensor that knows what is trained", lambda: decided(system, "current"), 120)
    change_data(system, price=1.4, demand=0.4)
    wait("held back", lambda: "holds changed data back" in system.ledger("retrain")[-1]["reason"], 120)
    assert system.served() == 1
    reported = serve(system, 900, price=1.4, demand=0.4)
    closes = math.ceil(reported / WINDOW) * WINDOW
    critical = "select * from alerts where resolved_at is null and severity = 'critical'"
    wait("an alarm", lambda: rows_of(system, critical), 240)  # that inputs have moved may be known sooner
    late = time.time() - closes
    print(f"\nfrom the window's end to the alarm: {late:.0f} s")
    (alert,) = rows_of(system, critical)
    assert alert["kind"] in ("decay", "drift")
    entry = system.ledger("monitoring")[-1]
    assert json.loads(entry["evidence"])["harmful"] is True
    assert rows_of(system, "select * from checks where status = 'alarm'")
    assert late <= LONGEST
    wait("a contest", lambda: len(system.ledger("contest")) == 2, 240)
    print(f"from the window's end to the contest: {time.time() - closes:.0f} s")
    (asked,) = decided(system, "requested")
    assert "monitoring of version 1 found" in asked["reason"]
    champion = wait_for_champion(system)
    contest = system.ledger("contest")[-1]
    assert (champion == 2) == (contest["decision"] in ("promote", "refresh")), contest["reason"]


def decided(system: System, decision: str) -> list[dict]:
    return [entry for entry in system.ledger("retrain") if entry["decision"] == decision]


def wait_for_champion(system: System) -> int:
    """The version that serves once the contest has had its effect."""
    wait("what serves now is in the ledger", lambda: len(system.ledger("champion")) == 2, 60)
    time.sleep(2)  # the service follows the pointer within a second
    return system.served()
