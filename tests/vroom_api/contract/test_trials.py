"""What may be tried beside a champion, and that its beginning and end are written down with the pointer or not at all."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.support import databases
from tests.support.bundles import FORECAST, inputs, manifest, publish
from tests.support.trials import put_beside, trial_of
from vroom_api.contract import POINTER, Pointer, TrialRole, forecast_folder, read_pointer
from vroom_api.contract.decoding import decode
from vroom_api.contract.event_log import events_after
from vroom_api.contract.events import Decision, TrialChanged, evidence_of
from vroom_api.contract.store import LocalStore, PointerMoved
from vroom_api.contract.tables import ledger
from vroom_api.contract.trials import change_traffic, enter_end, unlike

START = {"decision": Decision.STARTED, "reason": "a better recipe", "actor": "ann"}


def test_another_training_with_other_texts_and_ranges_of_training_may_stand_in():
    seen = [
        msgspec.structs.replace(one, seen_maximum=5.0, description="other", example=2.0) for one in inputs()
    ]
    assert list(unlike(manifest(1), manifest(2, title="Bookings", inputs=seen, rows=5))) == []


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        ({"target": "revenue"}, "target is 'revenue' and not 'reservations'"),
        ({"unit": "USD"}, "unit is 'USD' and not 'reservations'"),
        ({"horizon": "a day"}, "horizon is 'a day'"),
        ({"kind": "regression"}, "kind is"),
        ({"inputs": inputs()[:-1]}, "input description is missing"),
        ({"inputs": inputs()[::-1]}, "the inputs have another order"),
        (
            {"inputs": [msgspec.structs.replace(inputs()[0], maximum=2.0), *inputs()[1:]]},
            "input technology: maximum is 2.0 and not 1",
        ),
    ],
)
def test_what_takes_or_answers_something_else_may_not(given: dict[str, Any], difference: str):
    assert any(
        difference in one
        for one in unlike(manifest(1, inputs=inputs()), manifest(2, **{"inputs": inputs()} | given))
    )


url, engine = databases.url, databases.engine


@pytest.fixture
def before(tmp_path: Path) -> Pointer:
    publish(tmp_path, 1)
    put_beside(tmp_path, 2)
    pointer = read_pointer(FORECAST, tmp_path)
    assert pointer is not None
    return pointer


def entered(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(ledger.select().order_by(ledger.c.id)))


def test_pointer_ledger_and_events_change_together(engine, before, tmp_path):
    store, trial = LocalStore(tmp_path), trial_of(tmp_path, 2, TrialRole.SPLIT, 0.2)
    after = change_traffic(engine, store, FORECAST, trial, before, **START)
    assert (after.generation, after.trial, after.version) == (before.generation + 1, trial, 1)
    ended = change_traffic(
        engine, store, FORECAST, None, after, decision=Decision.STOPPED, reason="seen enough", actor="bob"
    )
    assert (ended.generation, ended.trial) == (before.generation + 2, None)
    assert [one.trial for one in store.history(FORECAST)][-3:] == [None, trial, None]
    first, second = entered(engine)
    assert (first.event, first.decision, first.actor) == ("trial", "started", "ann")
    assert (second.decision, second.reason) == ("stopped", "seen enough")
    assert evidence_of(TrialChanged, second.evidence).version == 2
    with engine.connect() as connection:
        events = events_after(connection, 0, 10)
    assert [(one.name, one.data["decision"], one.data["generation"]) for one in events] == [
        ("traffic-changed", "started", after.generation),
        ("traffic-changed", "stopped", ended.generation),
    ]


def test_what_was_decided_against_an_older_pointer_changes_nothing(engine, before, tmp_path):
    store = LocalStore(tmp_path)
    trial = trial_of(tmp_path, 2, TrialRole.SHADOW, 1.0)
    publish(tmp_path, 3)
    with pytest.raises(PointerMoved, match="generation 4, and this was decided against 3"):
        change_traffic(engine, store, FORECAST, trial, before, **START)
    assert (entered(engine), store.pointer(FORECAST).trial) == ([], None)
    with engine.connect() as connection:
        assert events_after(connection, 0, 10) == []


def test_what_cannot_be_written_down_is_not_done(engine, before, tmp_path):
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE ledger"))
    trial = trial_of(tmp_path, 2, TrialRole.SHADOW, 1.0)
    with pytest.raises(sa.exc.DBAPIError):
        change_traffic(engine, LocalStore(tmp_path), FORECAST, trial, before, **START)
    assert LocalStore(tmp_path).pointer(FORECAST) == before


def test_of_what_never_began_there_is_no_end(engine, before, tmp_path):
    with pytest.raises(ValueError, match="nothing to end"):
        change_traffic(engine, LocalStore(tmp_path), FORECAST, None, before, **START)
    enter_end(engine, FORECAST, before, before, Decision.STOPPED, "no trial", actor="ann")
    assert entered(engine) == []


def test_a_pointer_of_before_there_were_trials_reads_as_ever(tmp_path):
    folder = forecast_folder(FORECAST, tmp_path)
    folder.mkdir(parents=True)
    old = b'{"generation":4,"version":2,"manifest_sha256":"0","published_at":"2025-03-02T00:00:00+00:00"}'
    (folder / POINTER).write_bytes(old)
    assert read_pointer(FORECAST, tmp_path) == decode(old, Pointer)
    assert read_pointer(FORECAST, tmp_path).trial is None
