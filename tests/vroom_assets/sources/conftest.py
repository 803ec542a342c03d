"""A warehouse of the test's own, and tables loaded from bytes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from vroom_assets.sources import NamedFile, load
from vroom_assets.spec import Source

Loaded = Callable[..., list[tuple]]


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as one:
        yield one


@pytest.fixture
def loaded(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Loaded:
    """The rows of a table loaded from bytes."""

    def take(content: bytes, declared: Source, name: str = "things") -> list[tuple]:
        path = tmp_path / "content.csv"
        path.write_bytes(content)
        load(connection, name, declared, [NamedFile(path, "data/a.csv")])
        return connection.execute(f'from "{name}"').fetchall()

    return take
