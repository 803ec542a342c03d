"""The rows of all sources that are set aside: a table of the warehouse, and a CSV for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vroom_api.contract import durable
from vroom_assets.sources.columns import with_breaks
from vroom_assets.sources.files import NamedFile
from vroom_assets.sources.findings import FINDINGS, Rows, line, of_each
from vroom_assets.sources.lines import NOTE
from vroom_assets.sql import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_KEPT = 10_000  # findings of a refused file


def write(connection: DuckDBPyConnection, name: str, path: Path) -> None:
    """Write the bad rows of a source as a CSV that anybody can open; without bad rows there is no file.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    _create(connection)
    [(rows,)] = connection.execute("select count(*) from quarantine where source = ?", [name]).fetchall()
    if rows == 0:
        path.unlink(missing_ok=True)
        return
    guarded = ", ".join(
        f"case when regexp_matches({text}, '^[=+@\\t-]') and try_cast({text} as double) is null "
        f"then '''' || {text} else {text} end as {text}"
        for text in ("value", "raw")
    )
    with durable.replaced(path) as beside:
        connection.execute(
            f"copy (select * replace ({guarded}) from quarantine where source = {literal(name)} "
            f'order by file, line, "column") to {literal(str(beside))} (format csv, header)'
        )


def empty(connection: DuckDBPyConnection, name: str) -> None:
    """Forget the bad rows of a source."""
    _create(connection)
    connection.execute("delete from quarantine where source = ?", [name])


def fill(connection: DuckDBPyConnection, name: str, rows: Rows, raws: str, limit: int | None) -> None:
    """Add the findings with their lines as they stand in the files.

    Args:
        raws: SQL of a relation of `nth` and `raw`, at least of the bad lines.
        limit: how many findings at most.
    """
    connection.execute(
        f"""
        insert into quarantine
        with kept as (from {FINDINGS} order by nth, position {f"limit {limit}" if limit else ""}),
        raws as (from ({raws}) semi join kept using (nth))
        select
            ?, {of_each(rows.parts, "nth", lambda part: literal(part.file.name))},
            {of_each(rows.parts, "nth", lambda part: literal(part.file.path.stem))}, {line(rows.parts, "nth")}, "column", rule, value,
            message,
            case when starts_with(raw, '{NOTE}') then string_split(raw, '{NOTE}')[4] else {with_breaks("raw")} end
        from kept join raws using (nth)
        order by nth, position
        """,
        [name],
    )


def add_file(connection: DuckDBPyConnection, name: str, file: NamedFile, message: str) -> None:
    """Add a file that cannot be read at all."""
    connection.execute(
        "insert into quarantine values (?, ?, ?, null, '', 'file', null, ?, null)",
        [name, file.name, file.path.stem, message],
    )


def _create(connection: DuckDBPyConnection) -> None:
    connection.execute(
        """
        create table if not exists quarantine (
            source varchar, file varchar, snapshot varchar, line bigint, "column" varchar, rule varchar,
            value varchar, message varchar, raw varchar
        )
        """
    )
