"""The SQL of a declaration, executed in DuckDB on empty tables: what is wrong shows before there are rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vroom_assets.features.examples import TARGET_WINDOW
from vroom_assets.features.expressions import Feature, select_sql
from vroom_assets.sources.cells import SQL_TYPES
from vroom_assets.spec import ONE_CLASS, Column, ColumnType, ForecastSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Fault(NamedTuple):
    """What is wrong with a statement, for DuckDB or for the declaration."""

    file: str
    line: int
    message: str


NUMERIC = r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*|BOOLEAN"

FITTING = {  # DuckDB's types that hold what a declared one does
    ColumnType.INTEGER: NUMERIC,
    ColumnType.NUMBER: NUMERIC,
    ColumnType.TIMESTAMP: "TIMESTAMP.*|DATE",
    ColumnType.TEXT: "VARCHAR|ENUM.*|UUID",
}


class Needed(NamedTuple):
    """A column that a statement has to give: the field that names it, and its type."""

    field: str
    type: ColumnType


def faults(spec: ForecastSpec, features: Sequence[Feature]) -> Iterator[Fault]:
    """What is wrong with the statements; one that reads the result of a wrong one is not checked.

    No statement can reach files or the network here.
    """
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false", "threads": "1"}) as connection:
        for name, source in spec.sources.items():
            connection.execute(f'create table "{name}" ({_typed(source.columns)})')
        connection.execute("create table as_of (as_of timestamp)")
        found: list[Fault] = []
        for name, examples in spec.examples.items():
            made = _made(connection, name, spec.examples_sql[name], [*spec.sources, "as_of"], found)
            field = f"examples.{name}.columns"
            needed = {column: Needed(field, rule.type.stored) for column, rule in examples.columns.items()}
            found += _unfit(name, made, needed)
        yield from found
        if found:
            return
        needed = {
            spec.entity.key: Needed("entity.key", spec.entity_columns[spec.entity.key].type.stored),
            spec.target.name: Needed("target.name", ColumnType.NUMBER),
        }
        if spec.target.known_at:
            needed[spec.target.known_at] = Needed("target.known_at", ColumnType.TIMESTAMP)
        tables = [*spec.sources, *spec.examples]
        if spec.target.window_days is not None:
            tables.append(TARGET_WINDOW)
            connection.execute(f"create table {TARGET_WINDOW} (opens timestamp, closes timestamp)")
            if TARGET_WINDOW not in spec.target_sql:
                text = (
                    f"it does not read {TARGET_WINDOW}, so target.window_days has no effect; "
                    "count what lies after its `opens` and up to its `closes`"
                )
                found.append(Fault("target", 1, text))
        made = _made(connection, "target", spec.target_sql, tables, found)
        found += _unfit("target", made, needed)
        connection.execute(f"create table inputs ({_typed(spec.input_columns, plain=True)})")
        if features:
            _execute(connection, "features", select_sql(features, "inputs", [], ""), ["inputs"], found)
        yield from found


def _typed(columns: dict[str, Column], plain: bool = False) -> str:
    return ", ".join(
        f'"{name}" {"double" if plain else SQL_TYPES[column.type.stored]}' for name, column in columns.items()
    )


def _made(
    connection: DuckDBPyConnection, name: str, sql: str, tables: Sequence[str], found: list[Fault]
) -> dict[str, str] | None:
    """The columns of a statement's result, which is a table from now on, and their types; None if it has a fault."""
    body = sql.rstrip().rstrip(";")
    if not _execute(connection, name, f'create table "{name}" as ({body}\n)', tables, found):
        return None
    return {row[0]: row[1] for row in connection.execute(f'describe "{name}"').fetchall()}


def _execute(
    connection: DuckDBPyConnection, file: str, sql: str, tables: Sequence[str], found: list[Fault]
) -> bool:
    import duckdb

    try:
        connection.execute(sql)
    except duckdb.Error as error:
        text, _, position = str(error).partition("\n\nLINE ")
        text = " ".join(text.partition("Candidate functions:")[0].split()).rstrip(".!")
        line = int(number[0]) if (number := re.match(r"\d+", position)) else 1
        remedy = f"it may read {', '.join(tables)}" if "Table with name" in text else "correct the statement"
        found.append(Fault(file, line, f"{text}; {remedy}"))
        return False
    return True


def _unfit(file: str, made: dict[str, str] | None, needed: dict[str, Needed]) -> list[Fault]:
    """The columns that a result should have and has not, or has with another type."""
    if made is None:
        return []
    faults = []
    for column, (field, kind) in needed.items():
        if column not in made:
            text = f"it gives no column {column}, which {field} names; select one, it has {', '.join(made)}"
            faults.append(Fault(file, 1, text))
        elif field == "target.name" and re.fullmatch(FITTING[ColumnType.TEXT], made[column]):
            text = (
                f"column {column} is a text, and a forecast is of a number; {ONE_CLASS}: write "
                f"`({column} = '…')::integer as {column}`"
            )
            faults.append(Fault(file, 1, text))
        elif not re.fullmatch(FITTING[kind], made[column]):
            text = f"column {column} is a {made[column]}, and {field} asks for a {kind}; cast it"
            faults.append(Fault(file, 1, text))
    return faults
