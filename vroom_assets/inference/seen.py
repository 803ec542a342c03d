"""What a file holds: its format and, by reading every cell, the type of each column and what stands in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from vroom_api.contract import OPTIONS
from vroom_assets import sources
from vroom_assets.inference.notation import CannotInfer, notation_of
from vroom_assets.sources import cells, parquet
from vroom_assets.sources.columns import bare
from vroom_assets.sources.transcoding import Unreadable, packed_by
from vroom_assets.spec import Column, ColumnType, Format, Source
from vroom_assets.sql import as_written, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NOTATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"thousands": ","},
    {"decimal": ","},
    {"decimal": ",", "thousands": "."},
    {"decimal": ",", "thousands": " "},
    {"thousands": "'"},
    {"thousands": " "},
)
DAYS = (
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%d %b %Y",
    "%b %d, %Y",
    "%d-%m-%y",
    "%m/%d/%y",
    "%Y%m%dT%H%M%S",
)
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%b-%y", "%b %Y", "%b-%Y", "%B %Y")  # each as its first day
COMPACT = "%Y%m%d"  # looks like a number, so that the name of the column has to say that it is a day
MOMENT = re.compile(r"(^|_)(time|timestamp|ts|epoch|unix|created|date|datetime|when|at)(_|$)|time(stamp)?$")
EARLIEST, LATEST = 631_152_000, 2_208_988_800  # seconds since 1970: from 1990 to 2040
DAY = re.compile(r"(^|_)(date|day|dt|ymd)(_|$)")
ISO_WAYS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S")  # beside others in one file
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
TYPES = (  # tried in this order; the first that reads every text counts
    *(ColumnType.FLAG, ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.PERCENT, ColumnType.CURRENCY),
    *(ColumnType.DATE, ColumnType.TIMESTAMP, ColumnType.DURATION),
)
SPREADSHEET_ERRORS = ("#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!")
NULLS = ("NA", "N/A", "n/a", "NULL", "null", "None", "nan", "NaN", "-", "?", ".", "NONE", *SPREADSHEET_ERRORS)
NOTHING_MEASURED = ("-99", "-200", "-999", "-999.0", "-999.9", "-9999", "-9999.0", "-99999")
TOTAL = r"(?i)^(grand |sub ?)?(total|totals|sum|summe|gesamt|gesamtsumme|insgesamt|somme|suma|totale)\b[: ]*$"
MOST_BAD = 0.005  # share of texts that a type may leave unread, to be set aside
MOST_BAD_ROWS = 0.009  # share of rows with such a text; a file of more than 0.01 would be refused
FIRST_ROWS = 1000  # of a long file, by which a type is ruled out that reads few of them
REPEATING = ("month", "isodow", "hour")  # of a time, by which what is to come is like what was
AFTERWARDS = re.compile(
    r"(^|_)(status|updated?|modified|changed|closed?|complete[d]?|resolved?|end(ed)?|finish(ed)?|return(ed)?|"
    r"deliver(ed|y)|paid|cancel(l?ed)?|check_?out|drop_?off|last|reviewed)(_|$)"
)
SMALLER_UNITS = (  # than a year, by the names of their columns
    ("month", "mon", "month_name"),
    ("day", "day_of_month", "mday", "dom"),
    ("hour", "hr", "hour_of_day"),
    ("minute", "min"),
)
MOST_TIMES = 6  # columns that numbers are made of
MOST_COMPARED = 3  # of them with each other
LONG = 3.0  # days that typically lie between two times, from which on they are counted in days
MOST_WORDS = 3  # different ones that can mean nothing in a column of numbers
LEAST_NUMBERS = 10  # different ones that make it such a column
TABLE = "seen"


@dataclass(frozen=True)
class SeenColumn:
    """A column of the file, or a number made of its times."""

    header: str  # as the file has it
    name: str  # as the declaration has it
    type: ColumnType  # text for what no other type reads
    rows: int
    missing: int
    distinct: int
    lowest: Any  # of the values, as SQL orders them; of texts the most frequent
    highest: Any
    mean_length: float  # of its texts
    expression: str | None = None  # of what is made of times, the SQL
    times: tuple[str, ...] = ()  # the columns that it is made of
    joins: tuple[str, ...] = ()  # the headers of the columns of the file that are a time together

    @property
    def title(self) -> str:
        """What a reader knows it by."""
        if self.joins:
            return f"{self.name} (of {', '.join(self.joins)})"
        return self.expression or self.header

    @property
    def is_constant(self) -> bool:
        return self.distinct <= 1

    @property
    def is_unique(self) -> bool:
        return self.missing == 0 and self.distinct == self.rows

    @property
    def as_words(self) -> str:
        """What was seen, for a comment."""
        parts = [f"{self.distinct:,} different"]
        if self.distinct > 1 and self.type.stored is not ColumnType.TEXT:
            parts.append(f"{_short(self.lowest)} to {_short(self.highest)}")
        elif self.type.stored is ColumnType.TEXT and self.lowest is not None:
            parts.append(f"most often {_short(self.lowest)!r}")
        if self.missing:
            parts.append(f"{self.missing:,} of {self.rows:,} missing")
        return ", ".join(parts)


@dataclass(frozen=True)
class SeenFile:
    """A file, or several as one, as it can be read."""

    paths: list[Path]
    format: Format
    columns: list[SeenColumn]
    rows: int
    notes: list[str] = field(default_factory=list)  # guesses that are worth a check

    @property
    def name(self) -> str:
        return called(self.paths)

    def column(self, name: str) -> SeenColumn:
        """A column by its name in the file or in the declaration.

        Raises:
            CannotInfer: there is none.
        """
        for one in self.columns:
            if name in (one.header, one.name):
                return one
        like = [one for one in self.columns if bare(one.header) == bare(name)]
        if len(like) == 1 and bare(name):
            return like[0]
        listed = ", ".join(dict.fromkeys(one.header for one in self.columns))
        raise CannotInfer(
            f"{self.name} has no column {name!r}; it has {listed}. If it stands in a later line, remove the lines "
            "before that: a header is one line"
        )


def called(paths: Sequence[Path]) -> str:
    """A file by its name; several by a pattern that they are like."""
    if len(paths) == 1:
        return paths[0].name
    endings = {path.suffix for path in paths}
    return f"*{endings.pop()}" if len(endings) == 1 else "*"


@contextmanager
def seen(paths: Sequence[Path]) -> Iterator[tuple[DuckDBPyConnection, SeenFile]]:
    """What a file holds, or several as one, and for the length of a block its rows as the typed table `seen`.

    How a file is written is taken from the first that is a CSV.

    Raises:
        CannotInfer: one cannot be read, or they hold nothing.
    """
    paths = sorted(paths, key=lambda path: path.name)
    first = next((path for path in paths if not parquet.is_parquet(path)), paths[0])
    with duckdb.connect() as connection:
        try:
            format, header = notation_of(connection, first)
            names, written = unique_names(header), header
            if len(set(header)) != len(header) or "" in header:
                format = format.model_copy(
                    update={"skip": format.skip + (0 if format.header else 1), "header": names}
                )
                header = names
            texts = {
                name: Column(type=ColumnType.TEXT, nullable=True, header=one)
                for name, one in zip(names, header, strict=True)
            }
            source = Source(
                path=called(paths), description="", columns=texts, format=format, tolerated_bad_share=0.01
            )
            files = [sources.NamedFile(path, path.name) for path in paths]
            report = sources.load(connection, TABLE, source, files)
        except (Unreadable, sources.SourceError) as error:
            raise CannotInfer(_named(first, str(error))) from error
        found = _typed(connection, paths, format, dict(zip(names, header, strict=True)), report.accepted)
        texts_left = [one.name for one in found.columns if one.type is ColumnType.TEXT]
        _refuse_totals(
            connection, called(paths), texts_left
        )  # among numbers, such a row is set aside as it is
        notes = [*_notes_of_rows(report), *_notes_of_names(written, names)]
        yield connection, replace(found, notes=[*found.notes, *notes])


def _refuse_totals(connection: DuckDBPyConnection, name: str, columns: Iterable[str]) -> None:
    """Refuse a last row that sums up the others: it would be learnt from as one of them.

    Raises:
        CannotInfer: there is one, by a word that stands nowhere else in its column.
    """
    last = f"(select max(rowid) from {TABLE})"
    for column in columns:
        text = f"trim({identifier(column)})"
        found = connection.execute(
            f"""
            select {text} from {TABLE} where rowid = {last} and regexp_matches({text}, {literal(TOTAL)})
            and (select count(*) from {TABLE} as other where other.{identifier(column)} = {TABLE}.{identifier(column)}) = 1
            """
        ).fetchall()
        if found:
            raise CannotInfer(
                f"{name}: the last row says {found[0][0]!r} and sums up the others, as it seems; remove it, e.g. "
                f"`sed '$d' {name} > without-total.csv`, or give it another name if it is a row like them"
            )


def _notes_of_rows(report: sources.SourceReport) -> list[str]:
    if not report.quarantined:
        return []
    example = report.findings[0].examples[0]
    return [
        f"{report.quarantined:,} of {report.read:,} rows cannot be read and are set aside, e.g. {example}"
    ]


def _notes_of_names(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """What the columns are called whose name in the file another one has too."""
    return [
        f"{one} stands {header.count(one)} times in the header; from left to right they are called "
        + ", ".join(name for name, written in zip(names, header, strict=True) if written == one)
        for one in dict.fromkeys(header)
        if one and header.count(one) > 1
    ]


def _named(path: Path, message: str) -> str:
    """A message that begins with the file, as some do by themselves."""
    return message if not message.startswith((" ", ":")) else f"{path.name}: {message.lstrip(': ')}"


def unique_names(header: list[str]) -> list[str]:
    """Names for a declaration: lower-case letters, digits and _, none twice."""
    names: list[str] = []
    for number, one in enumerate(header, 1):
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _plain(one))
        name = re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_") or f"column_{number}"
        name = f"c_{name}" if name[0].isdigit() else name
        while name in names or name in RESERVED:
            name += "_"
        names.append(name)
    return [
        name.rstrip("_") + f"_{number}" if name.endswith("_") else name
        for number, name in enumerate(names, 1)
    ]


def _plain(text: str) -> str:
    """A text without accents: `größe` is `grosse`."""
    parted = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(each for each in parted if not unicodedata.combining(each))


RESERVED = (*OPTIONS, "row", "yes", "no", "on", "off", "true", "false", "null")  # of requests, and of YAML


def _typed(
    connection: DuckDBPyConnection, paths: list[Path], format: Format, headers: dict[str, str], rows: int
) -> SeenFile:
    """Types for the columns of the table of texts, which has typed columns from then on."""
    nulls = _nulls(connection, headers)
    bare = format.model_copy(update={"nulls": nulls})
    words = {word for name in headers for word in _words_for_nothing(connection, name, bare)}
    numbers = _numbers_for_nothing(connection, headers)
    bare = format.model_copy(update={"nulls": sorted({*nulls, *words, *numbers})})
    names = list(headers)
    notation = max(NOTATIONS, key=lambda one: (*_numbers(connection, names, bare, one), -len(one)))
    format = bare.model_copy(update=notation)
    types = _types_of(connection, names, format)
    ways = _ways_of_dates(connection, types, format)
    dates = sorted(set(ways.values()))
    if dates:
        iso = any(type.stored is ColumnType.TIMESTAMP for type in types.values())
        format = format.model_copy(update={"dates": [*dates, *(ISO_WAYS if iso else ())]})
        timed = [name for name in names if name in ways or types[name].stored is ColumnType.TIMESTAMP]
        days = _read(connection, timed, ColumnType.DATE, format)
        types |= {name: ColumnType.DATE if name in days else ColumnType.TIMESTAMP for name in timed}
    types = _few_bad_rows(connection, types, format, rows)
    if _have_blanks_around(connection, [name for name, type in types.items() if type is ColumnType.TEXT]):
        format = format.model_copy(update={"trim": True})
    typed = [
        f"{cells.value(_text(name, format), Column(type=type), format)} as {identifier(name)}"
        for name, type in types.items()
    ]
    joined = _joined_times(connection, headers, format)
    typed += [
        f"{_of_several(pieces, type, format)} as {identifier(own)}" for own, (type, pieces) in joined.items()
    ]
    connection.execute(f"create or replace table {TABLE} as select {', '.join(typed)} from {TABLE}")
    columns = [_summary(connection, name, headers[name], types[name], rows) for name in headers]
    columns += [
        replace(_summary(connection, own, own, type, rows), joins=tuple(headers[name] for name in pieces))
        for own, (type, pieces) in joined.items()
    ]
    columns += _made_of_times(connection, columns, rows)
    return SeenFile(paths, format, columns, rows, _notes(paths, format, dates, numbers))


def _notes(paths: Iterable[Path], format: Format, dates: Iterable[str], numbers: Iterable[str]) -> list[str]:
    """What was guessed of the file, and is worth a check."""
    notes = [
        f"times are read as {way}; check it where days and months can be mixed up"
        for way in dates
        if way[:2] in ("%d", "%m")
    ]
    if format.escape:
        notes.append(r"quotes inside cells stand after a backslash (\")")
    notes += [
        f"it is compressed by {name}, and read so"
        for name in sorted(set(filter(None, map(packed_by, paths))))
    ]
    notes += [f"{number} means nothing: it lies far below all other numbers" for number in numbers]
    return notes


def _have_blanks_around(connection: DuckDBPyConnection, names: list[str]) -> bool:
    """Whether some text has blanks at its ends, which nobody means."""
    if not names:
        return False
    conditions = " or ".join(f"trim({identifier(name)}) <> {identifier(name)}" for name in names)
    [(found,)] = connection.execute(f"select exists (from {TABLE} where {conditions})").fetchall()
    return bool(found)


def _made_of_times(
    connection: DuckDBPyConnection, columns: Sequence[SeenColumn], rows: int
) -> list[SeenColumn]:
    """Columns more of what repeats in the times that every row has, and of what lies between two of them.

    A time that was written down when all was over would tell, together with another, how it went.
    """
    times = [
        one
        for one in columns
        if one.type.stored is ColumnType.TIMESTAMP and not one.missing and not AFTERWARDS.search(one.name)
    ][:MOST_TIMES]
    made: dict[str, tuple[str, tuple[str, ...]]] = {
        f"{one.name}_{word}": (f"{word}({as_written(one.name)})", (one.name,))
        for one in times
        for word in (REPEATING if one.type is ColumnType.TIMESTAMP else REPEATING[:-1])
    }
    for earlier, later in combinations(times[:MOST_COMPARED], 2):
        between = f"date_diff('{{}}', {as_written(earlier.name)}, {as_written(later.name)})"
        [(days,)] = connection.execute(f"select median(abs({between.format('day')})) from {TABLE}").fetchall()
        unit = "day" if days >= LONG or ColumnType.DATE in (earlier.type, later.type) else "minute"
        made[f"{unit}s_from_{earlier.name}_to_{later.name}"] = (
            between.format(unit),
            (earlier.name, later.name),
        )
    found: list[SeenColumn] = []
    taken = {one.name for one in columns}
    for name, (expression, origins) in made.items():
        while name in taken:
            name += "_of_it"
        taken.add(name)
        connection.execute(f"alter table {TABLE} add column {identifier(name)} bigint")
        connection.execute(f"update {TABLE} set {identifier(name)} = {expression}")
        summary = _summary(connection, name, name, ColumnType.INTEGER, rows)
        if not summary.is_constant:
            found.append(replace(summary, expression=expression, times=origins))
    return found


def _joined_times(
    connection: DuckDBPyConnection, names: Iterable[str], format: Format
) -> dict[str, tuple[ColumnType, list[str]]]:
    """The times that stand in several columns, by names of their own: `arrival_date` is `arrival_date_year`, `_month` and so on.

    Each is as fine as the columns read in every row.
    """
    there = list(names)
    found: dict[str, tuple[ColumnType, list[str]]] = {}
    for name in there:
        prefix, year, rest = name.rpartition("year")
        if not year or rest or (prefix and not prefix.endswith("_")):
            continue
        pieces = [name]
        for spellings in SMALLER_UNITS:
            piece = next((prefix + one for one in spellings if prefix + one in there), None)
            if piece is None:
                break
            pieces.append(piece)
        while len(pieces) > 1:
            type = ColumnType.DATE if len(pieces) <= 3 else ColumnType.TIMESTAMP
            value = _of_several(pieces, type, format)
            [(read, different)] = connection.execute(
                f"select coalesce(bool_and({value} is not null), false), count(distinct {value}) from {TABLE}"
            ).fetchall()
            if read and different > 1:
                own = prefix.strip("_") or ("date" if type is ColumnType.DATE else "time")
                while own in there or own in found:
                    own += "_joined"
                found[own] = type, pieces
                break
            pieces = pieces[:-1]
    return found


def _of_several(pieces: Sequence[str], type: ColumnType, format: Format) -> str:
    """SQL of the time that stands in several columns."""
    text = cells.joined([_text(name, format) for name in pieces])
    return cells.value(text, Column(type=type), cells.in_iso(format))


def _text(name: str, format: Format) -> str:
    listed = ", ".join(map(literal, ["", *format.nulls]))
    return f"case when trim({identifier(name)}) not in ({listed}) then trim({identifier(name)}) end"


def _nulls(connection: DuckDBPyConnection, names: dict[str, str]) -> list[str]:
    """The words for nothing that some column has."""
    parts = [
        f"select distinct trim({identifier(name)}) as word from {TABLE} where trim({identifier(name)}) in ({', '.join(map(literal, NULLS))})"
        for name in names
    ]
    rows = connection.execute(f"select distinct word from ({' union all '.join(parts)})").fetchall()
    return sorted(word for (word,) in rows)


def _words_for_nothing(connection: DuckDBPyConnection, name: str, format: Format) -> list[str]:
    """The words that stand between the numbers of a column, such as `missing` and `--`, each more than once."""
    found = connection.execute(
        f"""
        with texts as (select {_text(name, format)} as word from {TABLE}),
        counted as (
            select word, count(*) as times, regexp_matches(word, '[0-9]') as has_digit
            from texts where word is not null group by 1
        )
        select count(*) filter (has_digit), count(*) filter (not has_digit), min(times) filter (not has_digit),
            (select list(word order by word) from (from counted where not has_digit limit {MOST_WORDS}))
        from counted
        """
    ).fetchall()
    [(numbers, others, least, words)] = found
    if not (numbers >= LEAST_NUMBERS and 0 < others <= MOST_WORDS and least > 1):
        return []
    tried = format.model_copy(update={"nulls": [*format.nulls, *words]})
    is_number = any(
        _read(connection, [name], type, tried.model_copy(update=notation))
        for type in (ColumnType.NUMBER, ColumnType.PERCENT, ColumnType.CURRENCY)
        for notation in NOTATIONS
    )
    return list(words) if is_number else []


def _numbers_for_nothing(connection: DuckDBPyConnection, names: Iterable[str]) -> list[str]:
    """The numbers that instruments write where they measured nothing, such as -200 and -999.

    One counts where it comes more than once, and lies far below the other numbers in each column that has it.
    """
    found: dict[str, bool] = {}
    for name in names:
        rows = connection.execute(
            f"""
            with texts as (select trim({identifier(name)}) as word from {TABLE}),
            others as (
                select min(try_cast(replace(word, ',', '.') as double)) as lowest
                from texts where word not in ({", ".join(map(literal, NOTHING_MEASURED))})
            )
            select word, count(*), any_value(lowest)
            from texts, others where word in ({", ".join(map(literal, NOTHING_MEASURED))}) group by word
            """
        ).fetchall()
        for word, count, lowest in rows:
            isolated = count > 1 and lowest is not None and lowest > float(word) / 3
            found[word] = found.get(word, True) and isolated
    return sorted(word for word, isolated in found.items() if isolated)


def _few_bad_rows(
    connection: DuckDBPyConnection, types: dict[str, ColumnType], format: Format, rows: int
) -> dict[str, ColumnType]:
    """The types, but texts for the columns with the most unread cells, until few rows have one."""
    bad = {name: _unread(name, type, format) for name, type in types.items() if type is not ColumnType.TEXT}
    if not bad:
        return types
    counts = ", ".join(f"count(*) filter ({condition})" for condition in bad.values())
    [found] = connection.execute(f"select {counts} from {TABLE}").fetchall()
    worst = sorted((count, name) for name, count in zip(bad, found, strict=True) if count)
    types = dict(types)
    while worst:
        conditions = " or ".join(bad[name] for _, name in worst)
        [(together,)] = connection.execute(f"select count(*) from {TABLE} where {conditions}").fetchall()
        if together <= MOST_BAD_ROWS * rows:
            break
        types[worst.pop()[1]] = ColumnType.TEXT
    return types


def _unread(name: str, type: ColumnType, format: Format) -> str:
    text = _text(name, format)
    return f"(({text}) is not null and ({cells.value(text, Column(type=type), format)}) is null)"


def _numbers(
    connection: DuckDBPyConnection, names: list[str], format: Format, notation: dict[str, Any]
) -> tuple[int, int]:
    """How many columns are numbers in a notation, with percentages and amounts of money, and without those."""
    written = format.model_copy(update=notation)
    plain = _read(connection, names, ColumnType.NUMBER, written)
    others: set[str] = set()
    for type in (ColumnType.PERCENT, ColumnType.CURRENCY):
        left = [name for name in names if name not in plain and name not in others]
        others |= _read(connection, left, type, written)
    return len(plain) + len(others), len(plain)


def _read(connection: DuckDBPyConnection, names: Iterable[str], type: ColumnType, format: Format) -> set[str]:
    """The columns whose texts a type reads all, but for very few, and that have any.

    The first rows rule most of them out, so that few are read to their end.
    """
    left = list(names)
    for part, most_bad in ((f"limit {FIRST_ROWS}", 10 * MOST_BAD), ("", MOST_BAD)):
        if not left:
            return set()
        texts = ", ".join(f"{_text(name, format)} as {identifier(name)}" for name in left)
        counts = ", ".join(
            f"count({identifier(name)}), count({cells.value(identifier(name), Column(type=type), format)})"
            for name in left
        )
        [found] = connection.execute(f"select {counts} from (select {texts} from {TABLE} {part})").fetchall()
        given = dict(zip(left, zip(found[::2], found[1::2], strict=True), strict=True))
        left = [name for name, (every, read) in given.items() if every - read <= most_bad * every]
    return {name for name in left if given[name][0]}


def _types_of(connection: DuckDBPyConnection, names: list[str], format: Format) -> dict[str, ColumnType]:
    """The first type that reads each column; text for what none does."""
    types: dict[str, ColumnType] = {}
    for type in TYPES:
        read = _read(connection, [name for name in names if name not in types], type, format)
        numbers = _read(connection, read, ColumnType.INTEGER, format) if type is ColumnType.FLAG else set()
        types |= {name: ColumnType.INTEGER if name in numbers else type for name in read}
    return {name: types.get(name, ColumnType.TEXT) for name in names}


def _ways_of_dates(
    connection: DuckDBPyConnection, types: dict[str, ColumnType], format: Format
) -> dict[str, str]:
    """How columns write times, of those that do and not as ISO 8601 has it."""
    days = [name for name, type in types.items() if type is ColumnType.INTEGER and DAY.search(name)]
    compact = _read(connection, days, ColumnType.DATE, format.model_copy(update={"dates": [COMPACT]}))
    ways = dict.fromkeys(compact, COMPACT) | _since_1970(connection, types)
    texts = [name for name, type in types.items() if type is ColumnType.TEXT]
    fitting: dict[str, list[str]] = {}
    for way in (*(day + clock for day in DAYS for clock in CLOCKS), *MONTHS):
        for name in _read(
            connection, texts, ColumnType.TIMESTAMP, format.model_copy(update={"dates": [way]})
        ):
            fitting.setdefault(name, []).append(way)
    for name, found in fitting.items():  # of two that fit, the one in which the file is in order
        ways[name] = min(
            found,
            key=lambda way: (_disorder(connection, name, format, way), way[:2] == "%m" and "/" not in way),
        )
    return ways


def _since_1970(connection: DuckDBPyConnection, types: dict[str, ColumnType]) -> dict[str, str]:
    """The whole numbers that count seconds or milliseconds, by their names and by lying in this time."""
    found: dict[str, str] = {}
    for name, type in types.items():
        if type is not ColumnType.INTEGER or not MOMENT.search(name):
            continue
        [(low, high)] = connection.execute(
            f"select min(try_cast({identifier(name)} as double)), max(try_cast({identifier(name)} as double)) from {TABLE}"
        ).fetchall()
        for way, units in (("%s", 1), ("%Q", 1_000)):
            if low is not None and EARLIEST * units <= low and high <= LATEST * units:
                found[name] = way
    return found


def _disorder(connection: DuckDBPyConnection, name: str, format: Format, way: str) -> int:
    """How often a row is earlier than the one before it."""
    moment = cells.value(
        "word", Column(type=ColumnType.TIMESTAMP), format.model_copy(update={"dates": [way]})
    )
    [(count,)] = connection.execute(
        f"""
        with texts as (select rowid as line, {_text(name, format)} as word from {TABLE}),
        moments as (select line, {moment} as moment from texts)
        select count(*) from (select moment < lag(moment) over (order by line) as earlier from moments)
        where earlier
        """
    ).fetchall()
    return int(count)


def _summary(
    connection: DuckDBPyConnection, name: str, header: str, type: ColumnType, rows: int
) -> SeenColumn:
    column = identifier(name)
    bounds = f"mode({column}), null" if type is ColumnType.TEXT else f"min({column}), max({column})"
    [(given, distinct, low, high, length)] = connection.execute(
        f"select count({column}), count(distinct {column}), {bounds}, coalesce(avg(length({column}::varchar)), 0) from {TABLE}"
    ).fetchall()
    return SeenColumn(header, name, type, rows, rows - given, distinct, low, high, float(length))


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 30 else text[:29] + "…"
