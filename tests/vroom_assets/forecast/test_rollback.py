"""A new champion that is worse is rolled back by itself; what was rolled back returns when somebody goes back to it."""

import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.bundles import FORECAST
from tests.support.forecasts import entries
from tests.support.succession import predictions, promote, unpublished
from vroom_api.contract import read_pointer
from vroom_api.contract.alerts import Severity, raise_alert
from vroom_api.contract.events import Decision, RolledBack, RolledBackByItself, evidence_of
from vroom_api.contract.tables import alerts, enter_ledger, serving_database
from vroom_assets import tracking
from vroom_assets.champion import publication
from vroom_assets.champion.publication import NotPublished
from vroom_assets.forecast.champion_assets import suspended_versions
from vroom_assets.forecast.rollback import Actor, act_on_successor
from vroom_assets.ledger import Ledger
from vroom_assets.monitoring.shadow import State

ACTOR = Actor("job reservations_monitor", "run-of-dagster")


def served() -> int:
    pointer = read_pointer(FORECAST)
    return pointer.version if pointer else 0


def watch(spec, rows, **given: Any):
    return act_on_successor(spec, lambda _: rows, tracking.Registry(), Ledger(), ACTOR, **given)


def open_alerts() -> list[Any]:
    with serving_database() as engine, engine.connect() as connection:
        return list(connection.execute(alerts.select().where(alerts.c.resolved_at.is_(None))))


def test_what_is_worse_is_rolled_back_and_all_that_tell_of_it_do(home, spec):
    promote(1)
    promote(2, scale=1.5)
    found = watch(spec, predictions(1000, 2, 1.5, days=0.01))
    assert served() == 1
    assert found.restored is not None
    assert (found.restored.generation, found.watched.state, found.refused) == (3, State.WORSE, "")
    (entry,) = entries("rollback")
    assert (entry.decision, entry.actor, entry.run_id) == ("restored", ACTOR.name, ACTOR.run_id)
    evidence = evidence_of(RolledBackByItself, entry.evidence)
    assert (evidence.before, evidence.after, evidence.generation, evidence.rows) == (2, 1, 3, 1000)
    assert evidence.log_evidence > evidence.log_evidence_needed
    assert entry.evidence["from"] == 2
    assert "version 1 serves again instead of 2: version 2 beside version 1" in entry.reason
    (alert,) = open_alerts()
    assert (alert.kind, alert.severity, alert.forecast) == ("rolled_back", "warning", FORECAST)
    assert "put it back with the job reservations_rollback" in alert.message
    (event,) = found.events
    assert (event.asset_key.path[-1], event.metadata["version"].value) == ("champion", 1)
    assert event.metadata["decision"].value == "restored"
    assert found.metadata["successor_rows"] == 1000
    assert [one.version for one in suspended_versions(FORECAST)] == [2]


def test_once_rolled_back_it_is_not_looked_at_again(home, spec):
    promote(1)
    promote(2, scale=1.5)
    rows = predictions(1000, 2, 1.5, days=0.01)
    watch(spec, rows)
    again = watch(spec, rows)
    assert (again.watched.state, again.restored, served()) == (State.NONE, None, 1)
    assert len(entries("rollback")) == 1


def test_what_is_not_worse_leaves_no_trace(home, spec):
    promote(1)
    promote(2)
    found = watch(spec, predictions(500, 2, 1.0, days=0.01))
    assert (served(), found.restored, list(found.events)) == (2, None, [])
    assert found.metadata["successor_state"] == "not shown to be worse"
    assert entries("rollback") == []
    assert open_alerts() == []


def test_a_promotion_meanwhile_wins_over_a_roll_back_decided_before_it(home, spec):
    promote(1)
    promote(2, scale=1.5)
    promote(3)
    with pytest.raises(NotPublished, match="another version was published meanwhile"):
        publication.restore(FORECAST, 1, {}.__getitem__, generation=2)
    assert served() == 3


def test_of_a_roll_back_and_a_promotion_at_once_one_wins(home, spec, tmp_path):
    promote(1)
    promote(2, scale=1.5)
    rows = predictions(600, 2, 1.5, days=0.01)
    folder, digest = unpublished(tmp_path / "third", 3)
    start = threading.Barrier(2)
    lost: list[str] = []
    found: list[Any] = []

    def publish() -> None:
        start.wait()
        try:
            publication.publish(folder, digest, generation=2)
        except NotPublished as error:
            lost.append(str(error))

    def roll_back() -> None:
        start.wait()
        found.append(watch(spec, rows))

    threads = [threading.Thread(target=one) for one in (publish, roll_back)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pointer = read_pointer(FORECAST)
    assert pointer is not None
    assert pointer.generation == 3
    restored = [entry for entry in entries("rollback") if entry.decision == Decision.RESTORED]
    if pointer.version == 3:  # the promotion came first: the roll-back was refused, or had nothing to decide
        assert (lost, restored, found[0].restored) == ([], [], None)
    else:
        assert (pointer.version, len(lost), len(restored)) == (1, 1, 1)


def test_a_version_before_that_is_damaged_is_not_restored(home, spec):
    from vroom_api.contract import MODEL, bundle_folder

    promote(1)
    promote(2, scale=1.5)
    (bundle_folder(FORECAST, 1) / MODEL).write_bytes(b"another")
    found = watch(spec, predictions(600, 2, 1.5, days=0.01))
    assert (served(), found.restored) == (2, None)
    assert "damaged" in found.watched.sentence


def roll_back(before: int, after: int) -> None:
    with serving_database() as engine:
        enter_ledger(
            engine,
            forecast=FORECAST,
            actor="job rollback",
            decision=Decision.RESTORED,
            reason="",
            evidence=RolledBack(before=before, after=after, generation=9),
        )


def suspended() -> list[int]:
    return [one.version for one in suspended_versions(FORECAST)]


def test_going_back_to_what_was_rolled_back_ends_its_suspension(home):
    for version, training in ((1, "first"), (2, "second"), (3, "second"), (4, "third")):
        promote(version, training=training)
    roll_back(4, 3)
    roll_back(3, 1)
    assert suspended() == [3, 4]
    roll_back(1, 2)  # the same training as version 3, in other words
    assert suspended() == [1, 4]
    roll_back(2, 4)
    assert suspended() == [1, 2]
    roll_back(4, 2)
    assert suspended() == [1, 4]


def test_other_words_of_what_serves_are_not_suspended(home):
    promote(1, training="first")
    promote(2, training="first")
    roll_back(2, 1)
    assert suspended() == []


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, fast, first_champion: Path) -> Path:
    """A home whose champion is version 2, of changed data; tests take copies of it."""
    from tests.support.forecasts import train
    from tests.support.project import copy

    folder = tmp_path_factory.mktemp("twice")
    shutil.copytree(first_champion, folder / "home")
    copy(folder, f"data/{FORECAST}")
    change(folder / "data" / FORECAST)
    train(fast, folder / "home", folder / "data")
    return folder / "home"


def change(data: Path) -> None:
    import pandas as pd

    path = data / "vehicles.csv"
    frame = pd.read_csv(path)
    frame["actual_price"] = (frame["actual_price"] * 1.1).round(2)
    frame.to_csv(path, index=False)


def to(version: int) -> dict[str, Any]:
    return {
        "ops": {
            f"roll_back_{FORECAST}": {"config": {"version": version, "reason": "it was better after all"}}
        }
    }


@pytest.mark.slow
def test_an_operator_who_rolls_forward_lifts_the_suspension_and_closes_the_alert(run, home, data, twice):
    shutil.copytree(twice, home, dirs_exist_ok=True)
    change(data)
    assert run("rollback").success
    assert run("promote").success
    assert "it equals version 2, which was rolled back" in entries("contest")[-1].reason
    with serving_database() as engine:
        raise_alert(
            engine,
            forecast=FORECAST,
            kind="rolled_back",
            severity=Severity.WARNING,
            message="version 1 serves again",
        )
    assert run("rollback", run_config=to(2)).success
    assert (served(), suspended(), open_alerts()) == (2, [1], [])
    assert run().success  # the same data and recipe as what was rolled back once
    assert served() == 2
    assert "rolled back" not in entries("contest")[-1].reason
    assert "the same recipe on the same data" in entries("contest")[-1].reason


def test_the_evidence_of_a_roll_back_by_itself_is_read_as_one_of_any(home):
    evidence = RolledBackByItself(
        before=2,
        after=1,
        generation=3,
        rows=9,
        loss=2.0,
        predecessor_loss=1.0,
        tolerated=0.0,
        log_evidence=4.0,
        log_evidence_needed=3.0,
    )
    read = evidence_of(RolledBack, msgspec.to_builtins(evidence))
    assert (read.before, read.after, read.generation) == (2, 1, 3)
