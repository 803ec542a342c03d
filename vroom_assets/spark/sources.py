"""Sources on Spark: lines read and typed in parallel, the good rows left as Parquet beside the warehouse.

Spark reads what DuckDB would read: a file, or its mended copy, in which each row is one line. It types the lines by the
same rules and finds repeats and orphans among all rows; the few lines that are not good go to the warehouse, where the
code that explains them for DuckDB explains them. Files, their copies and the Parquet lie where Spark's workers see them.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vroom_assets.sources import cells, columns, findings
from vroom_assets.sources.cells import SQL_TYPES
from vroom_assets.sources.findings import BAD, REPEATS, Count, Part, Rows, of_each
from vroom_assets.sources.lines import NOTE, Text
from vroom_assets.sources.published import TABLES, publish
from vroom_assets.sources.transcoding import Unreadable
from vroom_assets.spark.cells import NotOnSpark, literal, to_spark
from vroom_assets.spec import Column, ColumnType, Format, Source
from vroom_assets.sql import glob_escaped, identifier
from vroom_assets.sql import literal as sql_literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyspark.sql import DataFrame, SparkSession

REMEDY = "read it with `VROOM_ENGINE=duckdb`"


class Shape(NamedTuple):
    """What decides by which SQL the lines of a file are typed: files that share it are read at once."""

    header: tuple[str, ...]
    has_breaks: bool
    needs_care: bool


class Block(NamedTuple):
    """A piece of a file that one task reads from its start to its end."""

    part: int
    start: int  # its first byte
    first: int  # the id of its first line
    lines: int


@dataclass
class _Reading:
    """What is there for the length of a load."""

    beside: Path  # a folder of its own
    raw: DataFrame  # part, block, id, raw: the lines as they are
    rows: DataFrame  # nth, part, good, broken, cells, value_1 …
    blocks: str  # SQL of a relation of part, block, shift, first_row and headers
    source: Source


class SparkEngine:
    """A session of Spark, and the warehouse of a forecast."""

    def __init__(
        self, connection: DuckDBPyConnection, session: SparkSession, home: Path, snapshot: str
    ) -> None:
        """
        Args:
            home: the forecast's folder.
            snapshot: the name of the source's content.
        """
        self._connection, self._session, self._home, self._snapshot = connection, session, home, snapshot
        self._reading: _Reading | None = None

    @contextmanager
    def read(self, source: Source, parts: Sequence[Part]) -> Iterator[Rows]:
        beside = self._home / TABLES / f".{uuid.uuid4().hex}"
        beside.mkdir(parents=True)
        try:
            raw = _raw_lines(self._session, parts, beside)
            typed = _typed(raw, source, parts).persist()
            try:
                located, blocks = _located(typed, parts)
                rows = _numbered(self._session, typed, blocks, source)
                self._reading = _Reading(beside, raw, rows, blocks, source)
                with findings.repeats(self._connection):
                    yield Rows(located, self._found(located))
            finally:
                self._reading = None
                typed.unpersist()
        except NotOnSpark as error:
            raise Unreadable(f": Spark cannot read it as DuckDB does: {error}; {REMEDY}") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def raws(self, rows: Rows) -> str:
        """The bad lines, for which the files are read again."""
        reading = self._now
        bad = self._session.read.parquet(escaped(reading.beside / "bad")).select("nth")
        lines = _with_shift(self._session, reading.raw, reading.blocks).selectExpr("id + shift as nth", "raw")
        lines.join(bad, "nth", "left_semi").write.parquet(str(reading.beside / "raws"))
        return f"from {_parquet(reading.beside / 'raws')}"

    def replace(self, name: str, rows: Rows) -> None:
        reading = self._now
        good = reading.rows.where("good")
        if (reading.beside / "repeats").exists():
            repeats = self._session.read.parquet(escaped(reading.beside / "repeats"))
            good = good.join(repeats, "nth", "left_anti")
        named = (
            f"value_{position} as {_quoted(column)}"
            for position, column in enumerate(reading.source.columns, 1)
        )
        good.selectExpr(*named).write.parquet(str(reading.beside / "table"))
        files = self._home / TABLES / name / f"{self._snapshot}-{reading.beside.name[1:9]}"
        files.parent.mkdir(exist_ok=True)
        os.replace(reading.beside / "table", files)
        publish(self._connection, name, self._home, files)

    @property
    def _now(self) -> _Reading:
        assert self._reading is not None  # the engine is asked for rows that it is reading
        return self._reading

    def _found(self, parts: Sequence[Part]) -> list[Count]:
        """Rows of each file; leaves repeats, orphans and the bad rows to the warehouse."""
        reading, connection = self._now, self._connection
        for position, (name, column) in enumerate(reading.source.columns.items(), 1):
            if column.unique:
                self._find_repeats(parts, position, name)
            if column.references:
                self._find_orphans(position, name, column.references)
        index = of_each(parts, "nth", lambda part: str(part.index))
        of_rows = reading.rows.selectExpr("part", "1 as read", "if(good, 0, 1) as bad")
        found = of_rows.groupBy("part").sum("read", "bad").collect()
        read = {part: count for part, count, _ in found}
        bad = {part: count for part, _, count in found if count}
        repeated = connection.execute(
            f"select {index}, count(distinct nth) from {REPEATS} group by 1"
        ).fetchall()
        for part, count in repeated:
            bad[part] = bad.get(part, 0) + count
        if bad:
            self._leave_bad_rows(bool(repeated))
        return [
            Count(read.get(part.index, 0), read.get(part.index, 0) - bad.get(part.index, 0)) for part in parts
        ]

    def _find_repeats(self, parts: Sequence[Part], position: int, name: str) -> None:
        reading, value = self._now, f"value_{position}"
        keyed = reading.rows.where(f"good and {value} is not null").selectExpr("nth", f"{value} as value")
        keyed.createOrReplaceTempView("keyed")
        self._session.sql(
            "select value, min(nth) as first from keyed group by value having count(*) > 1"
        ).write.parquet(str(reading.beside / f"firsts {position}"))
        firsts = self._session.read.parquet(escaped(reading.beside / f"firsts {position}"))
        if firsts.isEmpty():
            return
        found = reading.beside / f"repeats {position}"
        keyed.join(firsts, "value").where("nth > first").write.parquet(str(found))
        findings.add_repeats(self._connection, parts, position, name, _parquet(found))

    def _find_orphans(self, position: int, name: str, references: str) -> None:
        reading, connection, value = self._now, self._connection, f"value_{position}"
        table, _, key = references.partition(".")
        type = SQL_TYPES[reading.source.columns[name].type.stored]
        [(found,)] = connection.execute(
            "select data_type from duckdb_columns() where table_name = ? and column_name = ?", [table, key]
        ).fetchall()[:1]
        if found.lower() != type:
            raise NotOnSpark(
                f"column {name} is a {type}, and {references}, which it refers to, a {found.lower()}"
            )
        keys = reading.beside / f"keys {position}.parquet"
        connection.execute(
            f"copy (select distinct {identifier(key)} as value from {identifier(table)}) to {sql_literal(str(keys))}"
        )
        orphans = reading.beside / f"orphans {position}"
        given = reading.rows.where(f"good and {value} is not null").selectExpr("nth", f"{value} as value")
        present = self._session.read.parquet(escaped(keys))
        given.join(present, "value", "left_anti").write.parquet(str(orphans))
        findings.add_orphans(connection, position, name, references, _parquet(orphans))

    def _leave_bad_rows(self, is_repeated: bool) -> None:
        reading, connection = self._now, self._connection
        bad = reading.rows.where("not good")
        if is_repeated:
            file = reading.beside / "repeats"
            connection.execute(
                f"copy (select distinct nth from {REPEATS}) to {sql_literal(str(file))} (format parquet)"
            )
            repeats = self._session.read.parquet(escaped(file))
            bad = bad.unionAll(
                reading.rows.where("good").join(repeats, "nth", "left_semi").select(bad.columns)
            )
        bad.drop("part", "good").write.parquet(str(reading.beside / "bad"))
        connection.execute(
            f"create or replace temp view {BAD} as select nth, broken, cells, columns('value_.*') from {_parquet(reading.beside / 'bad')}"
        )


def escaped(path: Path) -> str:
    """A path that means itself, where Spark would take it for a pattern."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", str(path))


def _parquet(folder: Path) -> str:
    return f"read_parquet({sql_literal(f'{glob_escaped(folder)}/*.parquet')}, hive_partitioning = false)"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _raw_lines(session: SparkSession, parts: Sequence[Part], beside: Path) -> DataFrame:
    """Lines with the file and the block that they are in, and an id that grows with the lines of a block by one."""
    folder = beside / "lines"
    folder.mkdir()
    for index, part in enumerate(parts):
        if part.text.types is not None:
            raise NotOnSpark(f"{part.file.name} is Parquet, whose values Spark writes otherwise")
        # Copies are hidden files, which Spark passes over.
        (folder / f"{index:06}.txt").symlink_to(part.text.path.resolve())
    return (
        session.read.option("lineSep", "\n")
        .text(escaped(folder))
        .selectExpr(
            "cast(left(_metadata.file_name, 6) as int) as part",
            "_metadata.file_block_start as block",
            "monotonically_increasing_id() as id",
            r"rtrim('\r', value) as raw",  # in a file with others than at its ends, none is left
        )
    )


def _typed(raw: DataFrame, source: Source, parts: Sequence[Part]) -> DataFrame:
    """Lines with `good` (null for a blank one), `broken`, `cells` and a value per column, `value_1` …"""
    shapes: dict[Shape, list[int]] = {}
    for index, part in enumerate(parts):
        text = part.text
        shapes.setdefault(Shape(tuple(text.header), text.has_breaks, text.needs_care), []).append(index)
    whole: DataFrame | None = None
    for indexes in shapes.values():
        lines = raw if len(shapes) == 1 else raw.where(f"part in ({', '.join(map(str, indexes))})")
        typed = _typed_alike(lines, source, parts[indexes[0]].text)
        whole = typed if whole is None else whole.unionAll(typed)
    assert whole is not None  # a source has a file
    return whole


def _typed_alike(raw: DataFrame, source: Source, text: Text) -> DataFrame:
    declared, format = list(enumerate(source.columns.items(), 1)), source.format
    lines = _cut(raw, text, format)
    texts = {
        position: to_spark(cells.text(columns.cell(name, column, text, format), column, format))
        for position, (name, column) in declared
    }
    lines = lines.selectExpr("*", *(f"{sql} as text_{position}" for position, sql in texts.items()))
    values = {position: _value(f"text_{position}", column, format) for position, (_, column) in declared}
    lines = lines.selectExpr("*", *(f"{sql} as value_{position}" for position, sql in values.items()))
    bad = " or ".join(
        columns.is_bad(f"value_{position}", column, f"text_{position}")
        for position, (_, column) in declared
        if column.type is not ColumnType.ROW
    )
    whole = (
        f"not broken and not startswith(get(cells, 0), {literal(NOTE)}) and size(cells) = {len(text.header)}"
    )
    lines = lines.selectExpr(
        "*", f"case when not blank then {whole} and not ({to_spark(bad or 'false')}) end as good"
    )
    return lines.selectExpr(
        *("part", "block", "id", "good", "broken", "case when not good then cells end as cells"), *(f"value_{position}" for position in values)
    )  # fmt: skip


def _value(text: str, column: Column, format: Format) -> str:
    if column.type is ColumnType.ROW:
        return "cast(null as bigint)"  # until the lines are numbered
    return to_spark(cells.value(text, column, format))


def _cut(raw: DataFrame, text: Text, format: Format) -> DataFrame:
    """Lines with their cells, whether they are `blank`, and whether their quotes are `broken`.

    A delimiter separates cells where an even number of quotes stands before it; so cut, the quotes are whole if each
    cell has none or stands in them, with doubled ones inside.
    """
    mark, blank = literal(re.escape(format.delimiter)), to_spark(columns.blank("raw"))
    kept = ("part", "block", "id", f"{blank} as blank")
    if not text.needs_care:
        return raw.selectExpr(*kept, "false as broken", f"split(raw, {mark}, -1) as cells")
    quote, double, separator = literal(format.quote), literal(format.quote * 2), literal("\x1f")
    between = f"replace(one, {literal(format.delimiter)}, {separator})"
    in_quotes = f"split(raw, {literal(re.escape(format.quote))}, -1)"
    outside = f"array_join(transform({in_quotes}, (one, n) -> if(n % 2 = 0, {between}, one)), {quote})"
    lines = raw.selectExpr(
        *kept,
        f"contains(raw, {quote}) and not startswith(raw, {literal(NOTE)}) as is_quoted",
        f"""
        case
            when startswith(raw, {literal(NOTE)}) then array(raw)
            when contains(raw, {quote}) then split({outside}, {separator}, -1)
            else split(raw, {mark}, -1)
        end as pieces
        """,
    )
    inside = "substring(piece, 2, length(piece) - 2)"
    is_whole = (
        f"not contains(piece, {quote}) or (length(piece) > 1 and startswith(piece, {quote}) "
        f"and endswith(piece, {quote}) and not contains(replace({inside}, {double}, ''), {quote}))"
    )
    bare = f"case when startswith(piece, {quote}) then replace({inside}, {double}, {quote}) else piece end"
    return lines.selectExpr(
        *("part", "block", "id", "blank"),
        f"is_quoted and exists(pieces, piece -> not ({is_whole})) as broken",
        f"case when is_quoted then transform(pieces, piece -> {bare}) else pieces end as cells",
    )


def _located(typed: DataFrame, parts: Sequence[Part]) -> tuple[list[Part], str]:
    """Where the lines of each file begin; and SQL of what to add to an id to have the line's number, `nth`."""
    found = [
        Block(*row)
        for row in typed.groupBy("part", "block").agg({"id": "min", "*": "count"}).select("part", "block", "min(id)", "count(1)").collect()
    ]  # fmt: skip
    blocks: Mapping[int, list[Block]] = {
        index: sorted(one for one in found if one.part == index) for index in range(len(parts))
    }
    start = headers = 0
    located, shifts = [], ["(-1, 0L, 0L, 0L, 0L)"]
    for index, part in enumerate(parts):
        headers += part.text.first_row
        here = replace(part, index=index, start=start, headers=headers)
        located.append(here)
        for block in blocks[index]:
            shifts.append(f"({index}, {block.start}L, {start - block.first}L, {here.first}L, {headers}L)")
            start += block.lines
    return located, f"values {', '.join(shifts)} as blocks(part, block, shift, first_row, headers)"


def _with_shift(session: SparkSession, lines: DataFrame, blocks: str) -> DataFrame:
    return lines.join(session.sql(f"select /*+ broadcast(blocks) */ * from {blocks}"), ["part", "block"])


def _numbered(session: SparkSession, typed: DataFrame, blocks: str, source: Source) -> DataFrame:
    """The lines that are rows."""
    values = (
        f"nth + 1 - headers as value_{position}" if column.type is ColumnType.ROW else f"value_{position}"
        for position, column in enumerate(source.columns.values(), 1)
    )
    lines = _with_shift(session, typed, blocks).selectExpr("*", "id + shift as nth")
    rows = lines.where("nth >= first_row and good is not null")
    return rows.selectExpr("nth", "part", "good", "broken", "cells", *values)
