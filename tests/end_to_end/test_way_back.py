"""A deliberately worse champion is published, and rolled back by itself; the ledger tells the story."""

import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from litestar.testing import TestClient

from tests.support.flagship import (  # noqa: F401
    Run,
    empty_instance,
    fast,
    first_champion,
    instance,
    run,
    spec,
    trained,
)
from tests.support.forecasts import definitions, entries
from tests.support.service import settings_of, wait_for
from vroom_api.app import create_app
from vroom_api.contract import read_pointer
from vroom_api.contract.tables import alerts, serving_database
from vroom_assets import resources, tracking
from vroom_assets.forecast import Forecast, rollback
from vroom_assets.ledger import Ledger
from vroom_assets.spec import Contest, Gates

pytestmark = pytest.mark.slow
NAME = "reservations"


def served() -> int:
    pointer = read_pointer(NAME)
    return pointer.version if pointer else 0


def change(data: Path) -> None:
    """Newer data, so that a training is a refresh."""
    path = data / "vehicles.csv"
    frame = pd.read_csv(path)
    frame["actual_price"] = (frame["actual_price"] * 1.02).round(2)
    frame.to_csv(path, index=False)


def worse(declared: Forecast) -> Forecast:
    """The forecast with a candidate that knows next to nothing, and rules that let it pass."""
    coarse = declared.candidates["glm"].model_copy(
        update={"features": ["num_images"], "terms": [], "bins": {}, "ranks": []}
    )
    return declared.model_copy(
        update={
            "candidates": {"coarse": coarse},
            "contest": Contest(margin=10.0),
            "gates": Gates(coverage=(0.0, 1.0), tercile_coverage=0.0, bias=10.0),
        }
    )


def ask_and_report(home: Path, data: Path, rows: int = 500) -> int:
    """Predictions of vehicles over HTTP, and what came of each; the version that answered."""
    vehicles = pd.read_csv(data / "vehicles.csv").head(rows)
    bookings = pd.read_csv(data / "reservations.csv").groupby("vehicle_id").size()
    with TestClient(create_app(settings_of(home, record=True))) as client:
        inputs = [one["name"] for one in client.get("/model").json()["inputs"]]
        requests = vehicles[inputs].to_dict("records")
        answers = []
        for start in range(0, rows, 100):
            answer = client.post("/predict/batch", json=requests[start : start + 100])
            assert answer.status_code == 200, answer.text
            answers += answer.json()
        outcomes = [
            {"prediction_id": one["prediction_id"], "value": int(bookings.get(vehicle, 0))}
            for one, vehicle in zip(answers, vehicles["vehicle_id"], strict=True)
        ]
        for start in range(0, rows, 100):
            answer = client.post("/outcomes", json=outcomes[start : start + 100])
            assert answer.status_code == 200, answer.text
    return int(answers[0]["model_version"])


def watch_job(declared: Forecast) -> dg.JobDefinition:
    """A job of the one call that the monitoring makes."""

    @dg.op(required_resource_keys={"warehouse", "registry", "ledger"})
    def watch(context: dg.OpExecutionContext) -> None:
        found = context.resources
        with found.warehouse.connect(NAME) as connection:
            rollback.watch_in_run(context, declared, connection, found.registry, found.ledger)

    @dg.job(
        name=f"{NAME}_watch",
        resource_defs={
            "warehouse": resources.Warehouse(),
            "registry": tracking.Registry(),
            "ledger": Ledger(),
        },
    )
    def watched() -> None:
        watch()

    return watched


def champion_page(one: dg.DagsterInstance) -> dict[str, Any]:
    event = one.get_latest_materialization_event(dg.AssetKey([NAME, "champion"]))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


@pytest.fixture
def promoted(run: Run, fast: Forecast, trained: Path, data: Path) -> Path:  # noqa: F811
    """A home whose version 2 knows next to nothing, and has answered 500 requests whose outcomes are reported."""
    change(data)
    assert run(spec=worse(fast)).success
    assert served() == 2, entries("contest")[-1].reason
    assert ask_and_report(trained, data) == 2
    assert run("monitor").success
    return trained


def test_a_worse_champion_is_rolled_back_by_itself(
    promoted: Path,
    run: Run,  # noqa: F811
    fast: Forecast,  # noqa: F811
    data: Path,
    instance: dg.DagsterInstance,  # noqa: F811
) -> None:
    with TestClient(create_app(settings_of(promoted))) as client:
        assert client.get("/model").json()["version"] == 2
        assert watch_job(fast).execute_in_process(instance=instance).success
        wait_for(lambda: client.get("/model").json()["version"] == 1)
        story = [
            (one["event"], one["decision"])
            for one in client.get("/ledger").json()["entries"]
            if one["event"] != "monitoring"
        ]
        (told,) = client.get("/ledger", params={"event": "rollback"}).json()["entries"]
    assert story[:4] == [
        ("rollback", "restored"),
        ("champion", "published"),
        ("contest", "refresh"),
        ("training", "registered"),
    ]
    assert (told["evidence"]["from"], told["evidence"]["to"], told["evidence"]["rows"]) == (2, 1, 500)
    assert told["evidence"]["loss"] > 1.05 * told["evidence"]["predecessor_loss"]
    assert told["evidence"]["log_evidence"] > told["evidence"]["log_evidence_needed"]
    shown = champion_page(instance)
    assert (shown["version"], shown["decision"]) == (1, "restored")
    assert "Version 1 beside version 2" in str(shown["beside_former"])
    with serving_database() as engine, engine.connect() as connection:
        (alert,) = connection.execute(alerts.select().where(alerts.c.kind == "rolled_back")).fetchall()
    assert alert.resolved_at is None
    assert run(spec=worse(fast)).success  # the same data and recipe as what was rolled back
    assert served() == 1
    assert "it equals version 2, which was rolled back" in entries("contest")[-1].reason
    assert run().success  # a better one is promoted, and that closes the alert
    assert served() == 4, entries("contest")[-1].reason
    with serving_database() as engine, engine.connect() as connection:
        (alert,) = connection.execute(alerts.select().where(alerts.c.kind == "rolled_back")).fetchall()
    assert alert.resolved_at is not None


def test_of_a_roll_back_and_a_promotion_at_once_one_wins(
    promoted: Path,
    run: Run,  # noqa: F811
    fast: Forecast,  # noqa: F811
    instance: dg.DagsterInstance,  # noqa: F811
) -> None:
    assert run("train").success
    assert run("promote", asset_selection=[dg.AssetKey([NAME, "contest"])]).success
    assert entries("contest")[-1].decision == "promote"
    publish = definitions(fast).resolve_job_def(f"{NAME}_promote")
    start = threading.Barrier(2)
    done: dict[str, bool] = {}

    def execute(name: str, job: dg.JobDefinition, **options: Any) -> None:
        start.wait()
        done[name] = job.execute_in_process(instance=instance, raise_on_error=False, **options).success

    threads = [
        threading.Thread(
            target=execute,
            args=("publish", publish),
            kwargs={"asset_selection": [dg.AssetKey([NAME, "champion"])]},
        ),
        threading.Thread(target=execute, args=("watch", watch_job(fast))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pointer = read_pointer(NAME)
    assert pointer is not None
    assert pointer.generation == 3
    restored = [entry for entry in entries("rollback") if entry.decision == "restored"]
    assert (pointer.version, len(restored)) in ((3, 0), (1, 1))
    assert done["watch"]
