"""A Parquet file as rows of texts, so that the rules of a CSV's cells hold for its values too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vroom_api.contract import durable
from vroom_assets.sources.lines import Text
from vroom_assets.sources.transcoding import Unreadable
from vroom_assets.sql import glob_escaped, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    try:
        with durable.opened(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False  # whoever reads it finds out


def text(connection: DuckDBPyConnection, path: Path) -> Text:
    """The columns of a file, whose first row is its line 1.

    Raises:
        Unreadable: it is damaged.
    """
    import duckdb

    try:
        columns = connection.execute(f"describe from {_read(path)}").fetchall()
    except duckdb.Error as error:
        raise Unreadable(f": it is not a whole Parquet file: {str(error).splitlines()[0]}") from error
    header = [name for name, *_ in columns]
    return Text(
        path, header, ends_in_line_break=True, first_row=0, types=tuple(type for _, type, *_ in columns)
    )


def cells(file: Text) -> str:
    """SQL of a table of `cells`, as a CSV would have them."""
    texts = ", ".join(_text(name, type) for name, type in zip(file.header, file.types or (), strict=True))
    return f"select false as blank, false as broken, [{texts}] as cells from {_read(file.path)}"


def raw(file: Text) -> str:
    """SQL of a table of `raw`, each row as JSON."""
    return f"select to_json(one)::varchar as raw from {_read(file.path)} as one"


def _text(name: str, type: str) -> str:
    # Of nanoseconds and of other units than microseconds, a CSV says microseconds.
    is_moment = type.startswith("TIMESTAMP") and "TIME ZONE" not in type
    return f"{identifier(name)}::{'timestamp::varchar' if is_moment else 'varchar'}"


def _read(path: Path) -> str:
    return f"read_parquet({literal(glob_escaped(path))}, hive_partitioning = false)"
