"""What is tried is judged in the monitoring run, stopped where it is worse, and promoted by a job."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from tests.support.bundles import FORECAST
from tests.support.forecasts import entries
from tests.support.succession import predictions, promote, try_beside, unpublished
from vroom_api.contract import Pointer, TrialRole, read_pointer
from vroom_api.contract.event_log import events_after
from vroom_api.contract.store import LocalStore, PointerMoved
from vroom_api.contract.tables import alerts, checks, serving_database
from vroom_assets import tracking
from vroom_assets.champion import publication
from vroom_assets.champion.publication import NotPublished
from vroom_assets.forecast.champion_assets import suspended_versions
from vroom_assets.forecast.rollback import Actor, go_back
from vroom_assets.forecast.trials import act_on_trial, judge_trial, promotion_job
from vroom_assets.ledger import Ledger
from vroom_assets.monitoring.trial import pair_of

ACTOR = Actor("job reservations_monitor", "run-of-dagster")


def judge(spec, pointer: Pointer, rows, days: float = 1.0) -> dict[str, Any]:
    found = pair_of(FORECAST, pointer)
    return act_on_trial(spec, found, rows, ACTOR, datetime.now(UTC) + timedelta(days=days))


def open_alerts() -> list[Any]:
    with serving_database() as engine, engine.connect() as connection:
        return list(connection.execute(alerts.select().where(alerts.c.resolved_at.is_(None))))


def kept_checks() -> list[Any]:
    with serving_database() as engine, engine.connect() as connection:
        return list(connection.execute(checks.select()))


def test_a_version_that_is_worse_is_stopped_and_all_that_tell_of_it_do(home, spec):
    promote(1)
    pointer = try_beside(2, 1.5)
    found = judge(spec, pointer, predictions(800, 1, 1.0, days=0.01))
    assert found["trial_stopped"] is True
    after = read_pointer(FORECAST)
    assert (after.version, after.generation, after.trial) == (1, pointer.generation + 1, None)
    worse, stopped = entries("trial")[-2:]
    assert [worse.decision, stopped.decision] == ["worse", "stopped"]
    assert (stopped.actor, stopped.run_id) == (ACTOR.name, ACTOR.run_id)
    assert (
        "version 2 is not tried any more, because it is worse: version 2 beside version 1" in stopped.reason
    )
    (alert,) = open_alerts()
    assert (alert.kind, alert.severity) == ("trial_stopped", "warning")
    (check,) = kept_checks()
    assert (check.name, check.version, check.status, check.rows) == ("trial", 2, "alarm", 800)
    with serving_database() as engine, engine.connect() as connection:
        names = [one.name for one in events_after(connection, 0, 10)]
    assert names.count("traffic-changed") == 1


def test_the_alert_is_over_when_something_else_serves_or_is_tried(home, spec):
    promote(1)
    judge(spec, try_beside(2, 1.5), predictions(800, 1, 1.0, days=0.01))
    judge_trial(spec, None, ACTOR, datetime.now(UTC))
    assert len(open_alerts()) == 1
    promote(3)
    assert judge_trial(spec, None, ACTOR, datetime.now(UTC)) == {}
    assert open_alerts() == []


def test_a_better_version_waits_for_somebody_and_its_verdict_is_entered_once(home, spec):
    promote(1, 1.5)
    pointer = try_beside(2, 1.0)
    rows = predictions(800, 1, 1.5, days=0.01)
    assert judge(spec, pointer, rows)["trial_rows"] == 800
    judge(spec, pointer, rows, days=2.0)
    assert read_pointer(FORECAST) == pointer
    assert [entry.decision for entry in entries("trial")] == ["better"]
    assert [check.status for check in kept_checks()] == ["ok", "ok"]


def test_before_there_is_a_verdict_the_ledger_is_quiet(home, spec):
    promote(1)
    pointer = try_beside(2, 1.0, TrialRole.SHADOW, 1.0)
    judge(spec, pointer, predictions(50, 1, 1.0, days=0.01))
    assert (entries("trial"), open_alerts()) == ([], [])
    assert [check.status for check in kept_checks()] == ["unknown"]


def test_a_trial_that_was_changed_meanwhile_is_not_stopped(home, spec):
    promote(1)
    pointer = try_beside(2, 1.5)
    changed = LocalStore().set_trial(FORECAST, None, pointer.generation)
    found = judge(spec, pointer, predictions(800, 1, 1.0, days=0.01))
    assert "its traffic changed" in found["trial_refused"]
    assert read_pointer(FORECAST) == changed
    assert open_alerts() == []


def test_a_publication_ends_a_trial_and_the_ledger_says_so(home, spec):
    promote(1)
    try_beside(2, 1.5)
    assert promote(3).trial is None
    (entry,) = entries("trial")
    assert (entry.decision, entry.evidence["version"], entry.evidence["champion"]) == ("stopped", 2, 3)
    try_beside(4)
    publication.retire(FORECAST, "over")
    assert [one.decision for one in entries("trial")] == ["stopped", "stopped"]
    assert "the forecast was retired" in entries("trial")[-1].reason


def test_what_is_tried_is_promoted_once_and_by_the_pointer_it_was_decided_by(home, spec):
    promote(1)
    pointer = try_beside(2)
    for version, generation, reason in ((2, 1, "has generation 2"), (3, 2, "not the one that is tried")):
        with pytest.raises(NotPublished, match=reason):
            publication.promote(FORECAST, version, generation, "better", actor="ann")
    before, after = publication.promote(FORECAST, 2, pointer.generation, "better", actor="ann")
    assert (before, after.version, after.trial, after.generation) == (pointer, 2, None, 3)
    (entry,) = entries("trial")
    assert (entry.decision, entry.reason) == ("promoted", "version 2 serves instead of version 1: better")
    with pytest.raises(NotPublished, match="decided meanwhile"):
        publication.promote(FORECAST, 2, pointer.generation, "better", actor="ann")


def promoted(spec, instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    return promotion_job(spec).execute_in_process(
        resources={"registry": tracking.Registry(), "ledger": Ledger()},
        run_config={"ops": {f"promote_version_of_{FORECAST}": {"config": config}}},
        instance=instance,
        raise_on_error=False,
    )


def test_of_a_promotion_a_publication_a_roll_back_and_a_stop_at_once_one_wins(home, spec, tmp_path):
    promote(1)
    promote(2)
    generation = try_beside(3).generation
    folder, digest = unpublished(tmp_path / "fourth", 4)
    start = threading.Barrier(4)
    won: list[str] = []
    lost: list[str] = []

    def attempt(name: str, change: Callable[[], object]) -> None:
        start.wait()
        try:
            change()
            won.append(name)
        except (NotPublished, PointerMoved) as error:
            lost.append(str(error))

    store = LocalStore()
    changes: dict[str, Callable[[], object]] = {
        "promote": lambda: publication.promote(FORECAST, 3, generation, "better", actor="ann"),
        "publish": lambda: publication.publish(folder, digest, generation=generation),
        "roll back": lambda: publication.restore(FORECAST, 1, {}.__getitem__, generation=generation),
        "stop": lambda: store.set_trial(FORECAST, None, generation),
    }
    threads = [threading.Thread(target=attempt, args=change) for change in changes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 3)
    serves = {"promote": 3, "publish": 4, "roll back": 1, "stop": 2}[won[0]]
    after = read_pointer(FORECAST)
    assert (after.version, after.generation, after.trial) == (serves, generation + 1, None)
    assert all("meanwhile" in reason for reason in lost)


def test_the_job_promotes_and_refuses_with_an_entry(home, spec):
    promote(1)
    pointer = try_beside(2)
    with dg.DagsterInstance.ephemeral() as instance:
        refused = promoted(spec, instance, version=2, generation=1, reason="too early")
        assert not refused.success
        assert read_pointer(FORECAST) == pointer
        assert entries("trial")[-1].decision == "refused"
        done = promoted(spec, instance, version=2, generation=pointer.generation, reason="better")
        assert done.success
        (event,) = [one for one in done.all_node_events if one.is_step_materialization]
        assert event.materialization.metadata["decision"].value == "promoted"
    assert read_pointer(FORECAST).version == 2
    assert [entry.decision for entry in entries("trial")] == ["refused", "promoted"]


def test_what_was_rolled_back_and_then_promoted_after_a_trial_is_suspended_no_more(home, spec):
    promote(1)
    promote(2, 1.5)
    go_back(spec, tracking.Registry(), Ledger(), ACTOR, 1, "worse")
    assert [one.version for one in suspended_versions(FORECAST)] == [2]
    pointer = try_beside(2, 1.5)
    publication.promote(FORECAST, 2, pointer.generation, "it is better after all", actor="ann")
    assert suspended_versions(FORECAST) == []
