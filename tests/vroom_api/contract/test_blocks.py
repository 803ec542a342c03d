"""Blocks: what they become in the table is what rows of their own would be, and nobody reads the table without them."""

import ast
import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import databases
from tests.support.project import ROOT
from vroom_api.contract import InputField, blocks
from vroom_api.contract.blocks import DamagedBlock, decode, encode, expand_blocks, insert_blocks
from vroom_api.contract.recorded import Origin, Prediction, insert
from vroom_api.contract.tables import open_database, prediction_blocks, predictions
from vroom_api.record import history
from vroom_api.record.history import Filter
from vroom_api.record.prediction import new_id, new_ids
from vroom_api.record.recorder import Recorder


def field(name: str, **changes: Any) -> InputField:
    return InputField(
        **{
            "name": name,
            "type": "text",
            "description": name,
            "unit": None,
            "minimum": None,
            "above": None,
            "maximum": None,
            "seen_minimum": 0.0,
            "seen_maximum": 2.0,
            "example": 0.0,
            "values": ["soft", "hard", "über"],
        }
        | changes
    )


ORIGINS = (
    Origin("reservations", 3, 7, "a" * 64, "d" * 64, ("num_images", "price"), ("num_images", "ratio")),
    Origin(
        "lap_times", 1, 2, "b" * 64, "e" * 64, ("tyre", "at"), ("ratio", "age"),
        ((0, field("tyre")), (1, field("at", type="time", values=[]))), 4,
    ),
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(-1e15, 1e15), st.just(-0.0), st.just(0.1 + 0.2))
ANY_NUMBERS = st.one_of(NUMBERS, st.just(float("nan")), st.just(float("inf")))


@st.composite
def made(draw: st.DrawFn) -> Prediction:
    origin = draw(st.sampled_from(ORIGINS))
    if origin.texts:
        inputs = [float(draw(st.integers(0, 2))), float(draw(st.integers(0, 2_000_000_000)))]
    else:
        inputs = [draw(ANY_NUMBERS), draw(ANY_NUMBERS)]
    return Prediction(
        id=new_id(),
        origin=origin,
        caller=draw(TEXTS),
        entity_id=draw(st.none() | TEXTS),
        inputs=inputs,
        features=[draw(ANY_NUMBERS), draw(ANY_NUMBERS)],
        value=float(draw(NUMBERS)),
        low=draw(NUMBERS),
        high=draw(NUMBERS),
        level=draw(st.floats(0.5, 0.99)),
        latency_us=draw(st.integers(0, 10**9)),
        tags=draw(st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3)),
    )


def one(identifier: str | None = None, **changes: Any) -> Prediction:
    plain: dict[str, Any] = {
        "id": identifier or new_id(), "origin": ORIGINS[0], "caller": "shop", "entity_id": None,
        "inputs": [4, 49.5], "features": [4.0, 0.3], "value": 6.4, "low": 0.0, "high": 15.0, "level": 0.9,
        "latency_us": 180,
    }  # fmt: skip
    return Prediction(**plain | changes)


url, engine = databases.url, databases.engine


def add(engine: sa.Engine, made: list[Prediction]) -> None:
    with engine.connect() as connection:
        cursor = connection.execution_options(isolation_level="AUTOCOMMIT").connection.cursor()
        insert_blocks(cursor, engine.dialect.name, made)


def rows(engine: sa.Engine) -> list[tuple[Any, ...]]:
    """All cells as they are stored, JSON as its text."""
    cells = ", ".join(
        f"CAST({column.name} AS text)" if column.name in ("inputs", "features", "tags") else column.name
        for column in predictions.columns
    )
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(sa.text(f"SELECT {cells} FROM predictions ORDER BY id"))
        ]


def waiting(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(prediction_blocks)) or 0)


@given(batch=st.lists(made(), min_size=1, max_size=12))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_expanded_is_what_rows_of_their_own_are_byte_by_byte(
    engine: sa.Engine, batch: list[Prediction]
) -> None:
    with engine.begin() as connection:
        connection.execute(predictions.delete())
        insert(connection.connection.cursor(), engine.dialect.name, batch)
    directly = rows(engine)
    with engine.begin() as connection:
        connection.execute(predictions.delete())
    add(engine, batch)
    assert rows(engine) == []
    assert expand_blocks(engine) == len(batch)
    assert repr(rows(engine)) == repr(directly)  # 4 and 4.0 differ, and NaN is itself
    assert waiting(engine) == 0


@given(batch=st.lists(made(), min_size=1, max_size=60))
def test_a_block_gives_back_what_it_was_made_of(batch: list[Prediction]) -> None:
    assert repr(decode(encode(batch))) == repr(batch)


def test_a_changed_bit_is_found(engine: sa.Engine) -> None:
    content = bytearray(encode([one() for _ in range(100)]))
    for position in range(0, len(content), 7):
        content[position] ^= 1
        with pytest.raises(DamagedBlock):
            decode(bytes(content))
        content[position] ^= 1


def test_a_damaged_block_keeps_no_other_from_being_read_and_stays(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [[one(), one()] for _ in range(3)]
    for batch in batches:
        add(engine, batch)
    with engine.begin() as connection:
        connection.execute(
            prediction_blocks.update()
            .where(prediction_blocks.c.id == batches[1][0].id)
            .values(content=b"\x00torn")
        )
    page = history.page(engine, Filter())
    assert {found.id for found in page.predictions} == {one.id for one in batches[0] + batches[2]}
    assert waiting(engine) == 1
    assert f"predictions from {batches[1][0].id} on cannot be read" in caplog.text
    assert expand_blocks(engine) == 0


def test_the_same_block_twice_is_there_once_and_nothing_beside_it_is_lost(engine: sa.Engine) -> None:
    first, second, third = one(), one(), one()
    add(engine, [first, second])
    add(engine, [first, second])
    add(engine, [first, third])
    expand_blocks(engine)
    add(engine, [first, second])
    expand_blocks(engine)
    assert [row[0] for row in rows(engine)] == [first.id, second.id, third.id]


def test_a_prediction_is_found_without_the_blocks_that_cannot_hold_it(engine: sa.Engine) -> None:
    batches = [[one(), one()] for _ in range(5)]
    for batch in batches:
        add(engine, batch)
    assert history.prediction(engine, batches[2][1].id).id == batches[2][1].id
    assert waiting(engine) == 4
    assert expand_blocks(engine, {batches[0][0].id, batches[4][1].id}) == 4
    assert waiting(engine) == 2


def test_blocks_of_any_number_of_predictions(engine: sa.Engine) -> None:
    identifiers = new_ids(2_500)
    add(engine, [one(identifier) for identifier in identifiers])
    assert waiting(engine) == 3
    assert expand_blocks(engine) == 2_500
    assert [row[0] for row in rows(engine)] == identifiers


def test_several_who_read_at_once_find_all_of_it_once(engine: sa.Engine) -> None:
    identifiers = new_ids(3_000)
    for start in range(0, len(identifiers), 30):
        add(engine, [one(identifier) for identifier in identifiers[start : start + 30]])
    counted: list[int] = []
    failed: list[BaseException] = []

    def read() -> None:
        try:
            expand_blocks(engine)
            counted.append(len(rows(engine)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert counted == [3_000] * 4


def test_an_expansion_that_is_cut_off_leaves_the_block(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(engine, [one(), one()])

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(blocks, "insert", cut_off)
        with pytest.raises(KeyboardInterrupt):
            expand_blocks(engine)
    assert waiting(engine) == 1
    assert len(history.page(engine, Filter()).predictions) == 2


# Where the table is named, and why blocks need not be expanded there. All others that name it call `expand_blocks`.
WITHOUT = {
    "vroom_api/contract/tables.py": "declares it",
    "vroom_api/contract/benchmark.py": "a condition, for those who read",
    "vroom_api/record/recorder.py": "deletes from it, after it has expanded blocks",
    "vroom_api/record/inventory.py": "looks for the newest id, there and in the blocks",
    "vroom_api/record/backup.py": "counts the rows of a copy, in which it has expanded blocks",
}


def test_nobody_reads_the_table_without_its_blocks() -> None:
    found = {}
    for package in ("vroom_api", "vroom_assets"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "vroom_api.contract.tables"
                for alias in node.names
            }
            called = {node.func.id for node in ast.walk(tree)
                      if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
            if "predictions" in imported or (path.name == "tables.py" and package == "vroom_api"):
                found[str(path.relative_to(ROOT))] = "expand_blocks" in called
    assert {path for path, expands in found.items() if not expands} == set(WITHOUT)
    assert len(found) > len(WITHOUT) + 5


def test_an_older_vroom_finds_what_was_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    from vroom_api.contract.migrations import config_of
    from vroom_api.contract.tables import connect, exclusive

    url = f"sqlite:///{tmp_path / 'serving.db'}"
    engine = open_database(url)
    batch = [one() for _ in range(10)]
    add(engine, batch)
    engine.dispose()
    with exclusive(connect(url)) as connection:
        command.downgrade(config_of(connection), "0002")
    with sqlite3.connect(tmp_path / "serving.db") as reader:
        found = [identifier for (identifier,) in reader.execute("SELECT id FROM predictions ORDER BY id")]
    assert found == [one.id for one in batch]


def test_a_recorder_expands_what_waits_when_it_starts_and_when_nobody_asks(engine: sa.Engine) -> None:
    add(engine, [one() for _ in range(100)])

    async def run() -> None:
        async with Recorder(lambda: engine) as recorder:
            await asyncio.gather(*(recorder.record(one()) for _ in range(50)))
            assert recorder.in_blocks >= 50
            for _ in range(500):
                await asyncio.sleep(0.01)
                if not recorder.in_blocks and not waiting(engine):
                    break
            assert recorder.in_blocks == waiting(engine) == 0

    asyncio.run(run())
    assert len(rows(engine)) == 150


def test_more_than_the_bound_does_not_wait_in_blocks(engine: sa.Engine) -> None:
    async def run() -> int:
        async with Recorder(lambda: engine, backlog=500) as recorder:
            most = 0
            for _ in range(40):
                await recorder.record(*(one() for _ in range(100)))
                most = max(most, recorder.in_blocks)
            return most

    assert asyncio.run(run()) <= 500 + 100
    expand_blocks(engine)
    assert len(rows(engine)) == 4_000
