"""The record: ids, group commit, refusal, drain, retention, pages, export and outcomes."""

import asyncio
import csv
import io
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.support import databases
from tests.support.tiny import manifest_of
from vroom_api.contract import Kind
from vroom_api.contract.ids import first_id, time_of
from vroom_api.contract.recorded import Origin, Prediction
from vroom_api.record import history, outcomes
from vroom_api.record.history import Filter, UnknownPrediction
from vroom_api.record.outcomes import BadOutcome, OtherValue, Outcome, UnknownSubject
from vroom_api.record.performance import performance
from vroom_api.record.prediction import new_id
from vroom_api.record.recorder import Recorder, RecordFull, RecordUnavailable

ALL = Filter()
ORIGIN = Origin("reservations", 3, 7, "a" * 64, "d" * 64, ("num_images", "price"), ("num_images", "ratio"))


def made(identifier: str | None = None, **changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "id": identifier or new_id(),
        "origin": ORIGIN,
        "caller": "shop",
        "entity_id": None,
        "inputs": (4, 49.5),
        "features": (4.0, 0.1 + 0.2),
        "value": 6.400000000000001,
        "low": 0.0,
        "high": 15.0,
        "level": 0.9,
        "latency_us": 180,
    }
    return Prediction(**(fields | changes))


url, engine = databases.url, databases.engine


def recording(engine: sa.Engine, use: Callable[[Recorder], Awaitable[Any]], **settings: Any) -> Any:
    async def run() -> Any:
        async with Recorder(lambda: engine, **settings) as recorder:
            return await use(recorder)

    return asyncio.run(run())


def store(engine: sa.Engine, *predictions: Prediction) -> None:
    async def use(recorder: Recorder) -> None:
        await recorder.record(*predictions)

    recording(engine, use)


def ids(engine: sa.Engine, wanted: Filter = ALL) -> list[str]:
    return [one.id for piece in history.pieces(engine, wanted) for one in piece]


# Ids


def test_ids_are_version_7_of_rfc_9562_and_carry_the_time() -> None:
    before = datetime.now(UTC)
    identifier = new_id()
    after = datetime.now(UTC)
    parsed = uuid.UUID(identifier)
    assert str(parsed) == identifier
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert before - timedelta(milliseconds=1) <= time_of(identifier) <= after + timedelta(milliseconds=1)


def test_ids_ascend_faster_than_the_clock_ticks() -> None:
    made_ids = [new_id() for _ in range(20_000)]
    assert made_ids == sorted(set(made_ids))


def test_ids_ascend_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert new_id() > earlier


# Writing


def test_what_was_acknowledged_is_read_back_as_it_was(engine: sa.Engine) -> None:
    one = made(entity_id="vehicle 12, é", features=(float("inf"), 0.1 + 0.2))
    store(engine, one)
    found = history.prediction(engine, one.id)
    assert found == history.Recorded(
        id=one.id,
        time=time_of(one.id),
        forecast="reservations",
        caller="shop",
        entity_id="vehicle 12, é",
        inputs={"num_images": 4, "price": 49.5},
        features={"num_images": None, "ratio": 0.1 + 0.2},
        value=6.400000000000001,
        low=0.0,
        high=15.0,
        level=0.9,
        version=3,
        generation=7,
        manifest_sha256="a" * 64,
        data_version="d" * 64,
        latency_us=180,
    )


def test_an_unknown_id_is_told(engine: sa.Engine) -> None:
    with pytest.raises(UnknownPrediction, match="not in the record"):
        history.prediction(engine, new_id())


def test_many_waiters_share_few_commits(engine: sa.Engine) -> None:
    async def use(recorder: Recorder) -> tuple[int, int]:
        await asyncio.gather(*(recorder.record(made()) for _ in range(300)))
        return recorder.commits, recorder.rows

    commits, rows = recording(engine, use)
    assert rows == 300
    assert commits <= 3
    assert len(ids(engine)) == 300


def test_a_batch_is_recorded_whole(engine: sa.Engine) -> None:
    batch = [made() for _ in range(1_000)]
    store(engine, *batch)
    assert ids(engine) == [one.id for one in reversed(batch)]


def test_the_same_id_twice_is_one_row(engine: sa.Engine) -> None:
    one = made()
    store(engine, one)
    store(engine, one)
    assert ids(engine) == [one.id]


def test_a_full_queue_refuses_and_says_when_to_come_back(engine: sa.Engine) -> None:
    async def use(recorder: Recorder) -> tuple[int, int]:
        taken = [recorder.record(made()) for _ in range(5)]
        with pytest.raises(RecordFull, match="holds 5") as refusal:
            recorder.record(made())
        assert refusal.value.retry_after >= 1
        await asyncio.gather(*taken)
        await recorder.record(made())  # there is room again
        return recorder.refused, recorder.waiting

    assert recording(engine, use, capacity=5) == (1, 0)
    assert len(ids(engine)) == 6


def test_a_caller_that_goes_away_harms_nobody(engine: sa.Engine) -> None:
    async def use(recorder: Recorder) -> None:
        left, stayed = recorder.record(made()), recorder.record(made())
        left.cancel()
        await stayed

    recording(engine, use)
    assert len(ids(engine)) == 2


def test_leaving_commits_all_that_waits_and_then_refuses(engine: sa.Engine) -> None:
    async def run() -> list[Any]:
        recorder = Recorder(lambda: engine, largest_commit=10)
        await recorder.__aenter__()
        taken = [recorder.record(made()) for _ in range(95)]
        await recorder.__aexit__(None, None, None)
        assert all(done.done() for done in taken)
        with pytest.raises(RecordUnavailable, match="stopping"):
            recorder.record(made())
        return await asyncio.gather(*taken)

    asyncio.run(run())
    assert len(ids(engine)) == 95


@pytest.mark.parametrize("text", ["", "a\x00b", "x" * 129, "line\nbreak", "line\n", "\ud800"])
def test_a_text_that_no_table_holds_is_refused_before_it_spoils_a_batch(engine: sa.Engine, text: str) -> None:
    async def use(recorder: Recorder) -> None:
        good = recorder.record(made())
        with pytest.raises(ValueError, match="entity_id: 1 to 128 characters"):
            recorder.record(made(entity_id=text))
        await good

    recording(engine, use)
    assert len(ids(engine)) == 1


@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_a_number_that_is_none_is_refused(engine: sa.Engine, field: str) -> None:
    async def use(recorder: Recorder) -> None:
        good = recorder.record(made())
        with pytest.raises(ValueError, match="only finite numbers are recorded"):
            recorder.record(made(**{field: float("nan")}))
        await good

    recording(engine, use)
    assert len(ids(engine)) == 1


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_connection_that_the_server_ends_is_replaced_unnoticed(engine: sa.Engine) -> None:
    async def use(recorder: Recorder) -> int:
        await recorder.record(made())
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND application_name = current_setting('application_name')"
            )
        await recorder.record(made())
        return recorder.failures

    assert recording(engine, use) == 0
    assert len(ids(engine)) == 2


def test_a_table_that_is_gone_refuses_and_the_next_batch_succeeds_once_it_is_back(engine: sa.Engine) -> None:
    async def use(recorder: Recorder) -> None:
        await recorder.record(made())
        assert await recorder.writable()
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE predictions RENAME TO elsewhere")
        with pytest.raises(RecordUnavailable, match="nothing is answered"):
            await recorder.record(made())
        assert recorder.failures == 1
        assert "predictions" in (recorder.last_failure or "")
        assert not await recorder.writable()
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO predictions")
        await recorder.record(made())
        assert recorder.last_failure is None

    recording(engine, use)
    assert len(ids(engine)) == 2


def test_a_probe_leaves_nothing_behind(engine: sa.Engine) -> None:
    async def use(recorder: Recorder) -> None:
        while not await recorder.writable():
            await asyncio.sleep(0.01)

    recording(engine, use)
    assert ids(engine) == []


# Retention


def old_id(days: float) -> str:
    moment = datetime.now(UTC) - timedelta(days=days)
    return first_id(moment)[:24] + uuid.uuid4().hex[:12]


def test_retention_deletes_what_is_too_old_and_nothing_else(engine: sa.Engine) -> None:
    recent = made(old_id(days=29.9))
    store(engine, recent, *(made(old_id(days=30.1)) for _ in range(25)))

    async def use(recorder: Recorder) -> int:
        return await recorder.forget(days=30, batch=10, pause=0)

    assert recording(engine, use) == 25
    assert ids(engine) == [recent.id]


# Reading


def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repetition(engine: sa.Engine) -> None:
    batch = [made() for _ in range(25)]
    store(engine, *batch)
    seen: list[str] = []
    before = None
    while True:
        page = history.page(engine, Filter(), before=before, size=10)
        seen += [one.id for one in page.predictions]
        store(engine, made())  # newer ones do not disturb the pages
        if page.next is None:
            break
        before = page.next
    assert seen == [one.id for one in reversed(batch)]


def test_filters_restrict_and_combine(engine: sa.Engine) -> None:
    other = msgspec.structs.replace(ORIGIN, forecast="lap_times")
    newer = msgspec.structs.replace(ORIGIN, version=4)
    plain, by_robot = made(), made(caller="robot")
    of_vehicle = made(entity_id="7")
    of_lap, of_newer = made(origin=other, entity_id="7"), made(origin=newer)
    store(engine, plain, by_robot, of_vehicle, of_lap, of_newer)
    assert ids(engine, Filter(caller="robot")) == [by_robot.id]
    assert ids(engine, Filter(forecast="lap_times")) == [of_lap.id]
    assert ids(engine, Filter(version=4)) == [of_newer.id]
    assert ids(engine, Filter(forecast="reservations", entity_id="7")) == [of_vehicle.id]
    assert ids(engine, Filter(forecast="lap_times", caller="robot")) == []


def test_times_include_the_start_and_exclude_the_end(engine: sa.Engine) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    before, at, within, end = (
        made(first_id(day + timedelta(microseconds=offset))) for offset in (-1, 0, 500, 1_000)
    )
    store(engine, before, at, within, end)
    wanted = Filter(start=day, end=day + timedelta(microseconds=1_000))
    assert ids(engine, wanted) == [within.id, at.id]


def test_the_export_is_complete_and_no_formula(engine: sa.Engine) -> None:
    batch = [made(caller="=cmd()", entity_id="-5"), made()]
    store(engine, *batch)
    text = b"".join(history.csv_pieces(engine, Filter())).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == [one.id for one in reversed(batch)]
    assert float(rows[0]["value"]) == 6.400000000000001
    assert msgspec.json.decode(rows[0]["inputs"]) == {"num_images": 4, "price": 49.5}
    assert (rows[1]["caller"], rows[1]["entity_id"]) == ("'=cmd()", "-5")


@pytest.mark.parametrize("first", "=+-@＝＋－＠﹢﹣﹦﹫⁺⁼")
def test_no_text_of_the_export_is_a_formula_of_any_spreadsheet(engine: sa.Engine, first: str) -> None:
    store(engine, made(entity_id=f"{first}cmd()"))
    text = b"".join(history.csv_pieces(engine, Filter())).decode()
    assert next(csv.DictReader(io.StringIO(text)))["entity_id"] == f"'{first}cmd()"


def test_an_empty_export_has_its_header(engine: sa.Engine) -> None:
    assert b"".join(history.csv_pieces(engine, Filter())).startswith(b"id,time,forecast,")


def test_parquet_holds_the_same_rows(engine: sa.Engine) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    one = made()
    store(engine, one)
    with history.parquet_file(engine, Filter()) as file:
        (row,) = parquet.read_table(file).to_pylist()
    assert (row["id"], row["value"], row["version"]) == (one.id, 6.400000000000001, 3)
    assert row["time"] == time_of(one.id)


def test_parquet_without_its_library_says_what_to_do(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(history.ParquetUnavailable, match="ask for CSV, or install pyarrow"):
        history.parquet_file(engine, Filter())


# Outcomes


def values(engine: sa.Engine) -> list[tuple[int, float]]:
    table = sa.text("SELECT revision, value FROM outcomes ORDER BY id")
    with engine.connect() as connection:
        return [(row.revision, row.value) for row in connection.execute(table)]


def test_an_outcome_told_twice_is_recorded_once(engine: sa.Engine) -> None:
    one = made()
    store(engine, one)
    of_prediction = Outcome(forecast="reservations", prediction_id=one.id, value=4)
    of_entity = Outcome(forecast="reservations", entity_id="7", period="2026", value=5)
    assert outcomes.receive(engine, [of_prediction, of_entity, of_entity], "shop") == outcomes.Received(
        2, 0, 1
    )
    assert outcomes.receive(engine, [of_prediction, of_entity], "shop") == outcomes.Received(0, 0, 2)
    assert values(engine) == [(1, 4.0), (1, 5.0)]


def test_another_value_is_refused_with_all_that_came_with_it(engine: sa.Engine) -> None:
    known = Outcome(forecast="reservations", entity_id="7", period="2026", value=5)
    outcomes.receive(engine, [known], "shop")
    new = Outcome(forecast="reservations", entity_id="8", period="2026", value=1)
    other = msgspec.structs.replace(known, value=6)
    with pytest.raises(OtherValue, match="5 is recorded and 6 was reported; send it with correction: true"):
        outcomes.receive(engine, [new, other], "shop")
    assert values(engine) == [(1, 5.0)]


def test_a_correction_is_added_once_and_the_old_value_stays(engine: sa.Engine) -> None:
    known = Outcome(forecast="reservations", entity_id="7", period="2026", value=5)
    outcomes.receive(engine, [known], "shop")
    right = msgspec.structs.replace(known, value=6, correction=True)
    assert outcomes.receive(engine, [right], "shop") == outcomes.Received(0, 1, 0)
    assert outcomes.receive(engine, [right], "shop") == outcomes.Received(0, 0, 1)
    assert values(engine) == [(1, 5.0), (2, 6.0)]
    with pytest.raises(OtherValue):  # the first message, delivered late once more, does not undo it
        outcomes.receive(engine, [known], "shop")


def test_other_periods_and_entities_are_other_subjects(engine: sa.Engine) -> None:
    reported = [
        Outcome(forecast="reservations", entity_id=entity, period=period, value=1)
        for entity, period in (("7", "2026"), ("7", "2027"), ("7 2026", "x"), ("7", "2026 x"))
    ]
    assert outcomes.receive(engine, reported, "shop").recorded == 4


@pytest.mark.parametrize("forecast", ["reservations", "lap_times"])
def test_an_outcome_of_no_recorded_prediction_is_refused(engine: sa.Engine, forecast: str) -> None:
    one = made()
    store(engine, one)
    unknown = new_id() if forecast == "reservations" else one.id
    with pytest.raises(UnknownSubject, match=f"no prediction of {forecast}"):
        outcomes.receive(engine, [Outcome(forecast=forecast, prediction_id=unknown, value=1)], "shop")
    assert values(engine) == []


@pytest.mark.parametrize(
    "subject",
    [
        {},
        {"entity_id": "7"},
        {"period": "2026"},
        {"prediction_id": new_id(), "entity_id": "7", "period": "2026"},
        {"prediction_id": new_id(), "period": "2026"},
    ],
)
def test_an_outcome_says_what_it_belongs_to(subject: dict[str, str]) -> None:
    with pytest.raises(BadOutcome, match="either prediction_id, or entity_id and period"):
        Outcome(forecast="reservations", value=1, **subject)


def test_the_same_outcome_told_by_many_at_once_is_recorded_once(engine: sa.Engine) -> None:
    reported = [Outcome(forecast="reservations", entity_id=str(n), period="2026", value=n) for n in range(20)]

    async def tell() -> list[outcomes.Received]:
        return await asyncio.gather(
            *(asyncio.to_thread(outcomes.receive, engine, reported, f"shop {n}") for n in range(6))
        )

    received = asyncio.run(tell())
    assert sum(one.recorded for one in received) == 20
    assert len(values(engine)) == 20


def test_of_a_probability_brier_score_and_auc_are_computed_in_every_database(engine: sa.Engine) -> None:
    chances = [(0.2, 0, "a"), (0.2, 1, "a"), (0.7, 1, "a"), (0.9, 1, "b")]
    predicted = [made(value=value, tags={"topic": topic}) for value, _, topic in chances]
    store(engine, *predicted)
    reported = [
        Outcome(forecast="reservations", value=outcome, prediction_id=one.id)
        for one, (_, outcome, _) in zip(predicted, chances, strict=True)
    ]
    outcomes.receive(engine, reported, "shop")
    found = performance(engine, "reservations", champion=manifest_of([], kind=Kind.BINARY), by="topic")
    assert (found.all.base_rate, found.all.brier_of_base_rate, found.all.auc) == (0.75, 0.1875, 2.5 / 3)
    assert {group.value: (group.base_rate, group.auc) for group in found.groups} == {
        "a": (2 / 3, 0.75),
        "b": (1.0, None),
    }
    assert performance(engine, "reservations").all.brier is None
    odd = made(value=0.5)  # an outcome that was taken while no champion served
    store(engine, odd)
    outcomes.receive(engine, [Outcome(forecast="reservations", value=0.5, prediction_id=odd.id)], "shop")
    mixed = performance(engine, "reservations", champion=manifest_of([], kind=Kind.BINARY)).all
    assert (mixed.outcomes, mixed.brier, mixed.base_rate, mixed.auc) == (5, None, None, None)


def test_tags_are_kept_and_errors_told_by_them(engine: sa.Engine) -> None:
    one = made(value=6.0, tags={"session": "2024 'race'", "circuit": "a"})
    two, plain = made(value=5.0, tags={"session": "other"}), made(value=1.0)
    store(engine, one, two, plain)
    assert history.prediction(engine, one.id).tags == one.tags
    assert history.prediction(engine, plain.id).tags is None
    assert ids(engine, Filter(tag=("session", "2024 'race'"))) == [one.id]
    assert ids(engine, Filter(tag=("circuit", "b"))) == []
    reported = [
        Outcome(forecast="reservations", value=value, prediction_id=made_one.id)
        for made_one, value in ((one, 4.0), (two, 5.0))
    ]
    outcomes.receive(engine, reported, "shop")
    found = performance(engine, "reservations", by="session")
    assert (found.predictions, found.all.outcomes, found.all.mae, found.all.bias) == (3, 2, 1.0, 1.0)
    assert {group.value: (group.outcomes, group.mae) for group in found.groups} == {
        "2024 'race'": (1, 2.0),
        "other": (1, 0.0),
    }
    assert performance(engine, "reservations", version=99).all.mae is None


@pytest.mark.parametrize("horizon", [{"due_s": 86_400.0}, {"due_input": "price"}])
def test_what_is_overdue_is_counted_by_the_declared_horizon(
    engine: sa.Engine, horizon: dict[str, Any]
) -> None:
    """The input says 50 days, the other horizon is one."""
    late, reported, new = made(old_id(days=60)), made(old_id(days=59)), made()
    store(engine, late, reported, new)
    outcomes.receive(engine, [Outcome(value=3, prediction_id=reported.id)], "shop")
    champion = manifest_of([], **horizon)
    assert performance(engine, "reservations", champion=champion).overdue == 1
    assert performance(engine, "reservations").overdue is None
