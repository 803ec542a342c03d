"""What a cell means: from its text to a value, by the column's type and the file's format.

A text has a value only where the whole of it is one. All is SQL over the text of a cell, so that millions of rows
are read in one statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vroom_assets.spec import Column, ColumnType, Format
from vroom_assets.sql import literal

SQL_TYPES = {
    ColumnType.INTEGER: "bigint",
    ColumnType.NUMBER: "double",
    ColumnType.TEXT: "varchar",
    ColumnType.TIMESTAMP: "timestamp",
}
WORDS = {
    ColumnType.INTEGER: "whole number",
    ColumnType.NUMBER: "finite number",
    ColumnType.TEXT: "text",
    ColumnType.TIMESTAMP: "date and time (2023-07-27 14:58:26)",
    ColumnType.DATE: "date (2023-07-27)",
    ColumnType.FLAG: "flag (yes or no, true or false, t or f, 1 or 0)",
    ColumnType.PERCENT: "percentage (90%)",
    ColumnType.CURRENCY: "amount of money ($1,234.50)",
    ColumnType.DURATION: "duration (1:24.500, 2 days 03:04:05, PT1H2M or seconds)",
}
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
    *("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
)
YES, NO = ("1", "t", "true", "y", "yes"), ("0", "f", "false", "n", "no")
ISO_DATE = r"[1-9]\d{3}-\d\d-\d\d"
ISO_TIME = r"([ T]([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,6})?)?)?"
OFFSET = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)"
UNITS = r"(\d{1,15})"  # not so many that a duration were infinite
CLOCK = rf"(-)?(?:{UNITS} days?,? )?(?:{UNITS}:)?{UNITS}:(\d{{1,15}}(?:\.\d+)?)"  # sign, days, hours, minutes, seconds
ISO_DURATION = rf"(-)?P(?:{UNITS}D)?(?:T(?:{UNITS}H)?(?:{UNITS}M)?(?:(\d{{1,15}}(?:\.\d+)?)S)?)?"
SPACES = r"\t\n\f\r "  # blanks of ASCII; `\s` has one more in other engines than in this
BLANKS = " \u00a0\u202f"  # between groups of digits: also those at which no line breaks
MONEY = r"[$€£¥₹]|[A-Z]{3}"


def in_iso(format: Format) -> Format:
    """The format with dates as ISO 8601 has them."""
    return format.model_copy(update={"dates": []})


class Quick(NamedTuple):
    """A value that a cast alone finds, for the cells for which it is known to be that of the exact rules."""

    holds: str  # SQL; null means that it does not hold
    value: str


def text(cell: str, column: Column, format: Format) -> str:
    """SQL of the text of a cell; null if it is empty. Blanks around other types than text mean nothing."""
    empty = ", ".join(map(literal, ["", *format.nulls]))
    kept = cell if column.type.stored is ColumnType.TEXT and not format.trim else f"trim({cell})"
    return f"case when trim({cell}) not in ({empty}) then {kept} end"


def read(cell: str, column: Column, format: Format, plain_blanks: bool = False) -> str:
    """SQL of the value of a cell as it stands in the file: the same as `value` of its `text`, several times as fast.

    Args:
        plain_blanks: whether no cell holds a tab or another blank of ASCII than spaces.
    """
    exact = value(text(cell, column, format), column, format)
    quick = _quick(cell, column, format, plain_blanks)
    if quick is None:
        return exact
    return f"case when {quick.holds} then {quick.value} else {exact} end"


def _quick(cell: str, column: Column, format: Format, plain_blanks: bool) -> Quick | None:
    """What a cast takes beyond the rules (`1e3` as a whole number, `1_000`, `inf`, tabs around) is excluded: most
    by writing the value as text again, which is the cell only if it was written as everybody writes it."""
    if column.joins:
        format = in_iso(format)
    # Other words cannot be taken for a value.
    nulls = [word for word in format.nulls if any(each.isdigit() for each in word)]
    no_null = f" and {cell} not in ({', '.join(map(literal, nulls))})" if nulls else ""
    match column.type:
        case ColumnType.TIMESTAMP | ColumnType.DATE:
            return None if format.dates else _quick_moment(cell, no_null, column, format)
        case ColumnType.INTEGER:
            number = f"try_cast({cell} as bigint)"
            return Quick(f"{number}::varchar = {cell}{no_null}", number)
        case ColumnType.NUMBER | ColumnType.DURATION | ColumnType.PERCENT if plain_blanks:
            is_point = format.decimal == "."
            digits = cell if is_point else f"replace({cell}, ',', '.')"
            number = f"try_cast({digits} as double)"
            others = ["_", "+"] if is_point else ["_", "+", "."]  # DuckDB takes +-0 for a number
            if nulls:
                others.append(" ")  # which may stand around such a word
            without = "".join(f" and not contains({cell}, '{other}')" for other in others)
            return Quick(f"isfinite({number}){without}{no_null}", number)
        case ColumnType.FLAG:
            return Quick(f"{cell} in ('0', '1'){no_null}", f"({cell} = '1')::bigint")
        case ColumnType.TEXT | ColumnType.CATEGORY if not format.nulls and not format.trim:
            return Quick(f"{cell} between '!' and '~'", cell)  # there are blanks beyond ASCII too
    return None


def _quick_moment(cell: str, no_null: str, column: Column, format: Format) -> Quick:
    type, last = (
        ("date", "9999-12-31")
        if column.type is ColumnType.DATE
        else ("timestamp", "9999-12-31 23:59:59.999999")
    )
    moment = f"try_cast({cell} as {type})"
    holds = (
        f"{moment}::varchar = {cell} and {moment} between {type} '1000-01-01' and {type} '{last}'{no_null}"
    )
    return Quick(holds, f"{moment}::timestamp" if type == "date" else _in_utc(moment, format))


def value(text: str, column: Column, format: Format) -> str:
    """SQL of the value of a cell, null where its text is none.

    Args:
        text: SQL of the text of the cell, without blanks around it; null if it is empty.
    """
    if column.joins:
        format = in_iso(format)
    match column.type:
        case ColumnType.TEXT | ColumnType.CATEGORY:
            return text
        case ColumnType.INTEGER:
            whole = f"try_cast({_whole(_digits(text, format))} as bigint)"
            return _where(text, _integers(format), whole)
        case ColumnType.NUMBER:
            return _number(text, format)
        case ColumnType.PERCENT:
            return _number(f"rtrim(rtrim({text}, '%'))", format)
        case ColumnType.CURRENCY:
            return _money(text, format)
        case ColumnType.FLAG:
            listed = [", ".join(map(literal, words)) for words in (YES, NO)]
            return f"case when lower({text}) in ({listed[0]}) then 1::bigint when lower({text}) in ({listed[1]}) then 0::bigint end"
        case ColumnType.DURATION:
            return _duration(text, format)
        case ColumnType.TIMESTAMP:
            return _moment(text, ISO_DATE + ISO_TIME, format)
        case ColumnType.DATE:
            day = _moment(text, ISO_DATE, format.model_copy(update={"zone": None}))
            return f"case when {day} = date_trunc('day', {day}) then {day} end" if format.dates else day
    raise TypeError(f"a cell cannot be of type {column.type}")


def _where(text: str, pattern: str, meaning: str) -> str:
    return f"case when regexp_full_match({text}, {literal(pattern)}) then {meaning} end"


def _numbers(format: Format) -> str:
    """What numbers look like."""
    point = re.escape(format.decimal)
    plain = rf"[+-]?(\d+{point}?\d*|{point}\d+)([eE][+-]?\d+)?"
    return plain if format.thousands is None else rf"({plain}|[+-]?{_groups(format)}({point}\d*)?)"


def _integers(format: Format) -> str:
    """What whole numbers look like: 5.0 is one, as pandas writes those of a column with gaps."""
    zeros = rf"({re.escape(format.decimal)}0*)?"
    plain = rf"[+-]?\d+{zeros}"
    return plain if format.thousands is None else rf"({plain}|[+-]?{_groups(format)}{zeros})"


def _groups(format: Format) -> str:
    mark = f"[{BLANKS}]" if format.thousands == " " else re.escape(format.thousands or "")
    return rf"\d{{1,3}}({mark}\d{{3}})+"


def _digits(text: str, format: Format) -> str:
    """A number as SQL writes it."""
    if format.thousands is not None:
        for mark in BLANKS if format.thousands == " " else format.thousands:
            text = f"replace({text}, {literal(mark)}, '')"
    return text if format.decimal == "." else f"replace({text}, ',', '.')"


def _whole(digits: str) -> str:
    return f"split_part({digits}, '.', 1)"


def _number(text: str, format: Format) -> str:
    number = f"try_cast({_digits(text, format)} as double)"
    return f"case when regexp_full_match({text}, {literal(_numbers(format))}) and isfinite({number}) then {number} end"


def _money(text: str, format: Format) -> str:
    """An amount with its currency before or after it; in brackets, or with a minus before or behind it, it is negative."""
    thousands = format.thousands or ("," if format.decimal == "." else ".")
    grouped = format.model_copy(update={"thousands": thousands})
    number = rf"\d+({re.escape(format.decimal)}\d*)?|{_groups(grouped)}({re.escape(format.decimal)}\d*)?"
    gap = f"[{SPACES}]*"
    between = f"({MONEY})?{gap}({number}){gap}({MONEY})?"
    whole = rf"-?({MONEY})?{gap}-?({number}){gap}({MONEY})?|{between}-|\({between}\)"
    others = literal(rf"{MONEY}|[-(){SPACES}]")
    bare = f"regexp_replace({text}, {others}, '', 'g')"
    sign = f"case when contains({text}, '-') or starts_with({text}, '(') then -1 else 1 end"
    amount = f"try_cast({_digits(bare, grouped)} as double)"
    return _where(text, whole, f"case when isfinite({amount}) then {sign} * {amount} end")


def _duration(text: str, format: Format) -> str:
    """Seconds, from a clock's notation, that of ISO 8601, or a number of them."""
    point = text if format.decimal == "." else f"replace({text}, ',', '.')"
    parts = {2: 86_400, 3: 3_600, 4: 60, 5: 1}

    def seconds(pattern: str) -> str:
        whole = literal(rf"\A{pattern}\z")

        def part(number: int) -> str:
            return f"coalesce(try_cast(regexp_extract({point}, {whole}, {number}) as double), 0)"

        total = " + ".join(f"{part(number)} * {factor}" for number, factor in parts.items())
        return f"(case when starts_with({text}, '-') then -1 else 1 end) * ({total})"

    some = f"regexp_matches({text}, '\\d')"  # `P` and `PT` alone say nothing
    return f"""
    case
        when regexp_full_match({point}, {literal(CLOCK)}) then {seconds(CLOCK)}
        when regexp_full_match({point}, {literal(ISO_DURATION)}) and {some} then {seconds(ISO_DURATION)}
        else {_number(text, format)}
    end"""


COUNTED = {  # since 1970, always in UTC: how the number looks, and microseconds in what it counts
    "%s": (r"\d{1,10}(\.\d+)?", 1_000_000),
    "%Q": (r"\d{11,14}", 1_000),
}


def _moment(text: str, iso: str, format: Format) -> str:
    """A time in UTC where the zone is known, else as it is written.

    A time that clocks show twice when summer ends counts as the later one, one that they skip as an hour later.
    """
    local = _in_utc(_local(text, iso, format), format)
    since = "".join(
        f", {_where(text, number, f'make_timestamp((try_cast({text} as double) * {microseconds})::bigint)')}"
        for way, (number, microseconds) in COUNTED.items()
        if way in format.dates
    )
    if since:
        return f"coalesce({local}{since})"
    if iso == ISO_DATE or format.dates:
        return local
    with_offset = _where(
        text, iso.removesuffix("?") + OFFSET, f"timezone('UTC', try_cast({text} as timestamptz))"
    )
    return f"coalesce({local}, {with_offset})"


def _in_utc(local: str, format: Format) -> str:
    return local if format.zone is None else f"timezone('UTC', timezone({literal(format.zone)}, {local}))"


def _local(text: str, iso: str, format: Format) -> str:
    """A time as it is written."""
    if format.dates:
        listed = ", ".join(literal(way) for way in format.dates if way not in COUNTED)
        if not listed:
            return "null::timestamp"
        some = f"regexp_matches({text}, '\\d')"  # `epoch` and `infinity` are times to DuckDB
        return f"case when {some} then try_strptime({text}, [{listed}])::timestamp end"
    return _where(text, iso, f"try_cast({text} as timestamp)")


def joined(pieces: Sequence[str]) -> str:
    """SQL of the text of a time by ISO 8601, from those of its year, month, day, hour and minute; null if one is.

    Args:
        pieces: SQL of their texts, at least of the first two.
    """
    year, month, *others = (f"regexp_replace({piece}, '[.]0*\\z', '')" for piece in pieces)
    listed = f"[{', '.join(map(literal, MONTHS))}]"
    digits = f"case when regexp_full_match({month}, '\\d{{1,9}}') then try_cast({month} as integer) end"
    number = f"coalesce(1 + (nullif(list_position({listed}, lower({month})), 0) - 1) % 12, {digits})"
    # What cannot be a month or an hour stays as it is: then the whole cannot be read, and shows why.
    day, *clock = [_two_digits(other, other) for other in others] or ["'01'"]
    date = f"{year} || '-' || {_two_digits(number, month)} || '-' || {day}"
    if not clock:
        return date
    clock += ["'00'"] * (3 - len(clock))
    time = " || ':' || ".join(clock)
    return f"{date} || ' ' || {time}"


def _two_digits(number: str, text: str) -> str:
    digits = f"{number}::varchar"
    return f"case when regexp_full_match({digits}, '[0-9]') then '0' || {digits} else coalesce({digits}, {text}) end"


class Remedy(NamedTuple):
    """What would read a text that a column's type does not."""

    pattern: str
    words: str


NULLS = r"(?i)n/?a|null|none|nan|nil|missing|-+|\?|\.|#[a-z0/]+[!?]?"
NUMBERS = (
    Remedy(NULLS, "`format: {nulls: [NA]}` with this word reads it as empty, where the column is `nullable`"),
    Remedy(rf"\(?-?({MONEY}).*\d.*|.*\d\s*({MONEY})\)?", "`type: currency` reads it"),
    Remedy(r"[\d.,' ]*\d-", "`type: currency` reads it"),
    Remedy(r".*\d\s*%", "`type: percent` reads it"),
    Remedy(
        r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?",
        "`format: {thousands: ','}` reads it, or as an amount `type: currency`",
    ),
    Remedy(rf"[+-]?\d{{1,3}}([{BLANKS}]\d{{3}})+(\.\d+)?", "`format: {thousands: ' '}` reads it"),
    Remedy(r"[+-]?\d{1,3}('\d{3})+(\.\d+)?", '`format: {thousands: "\'"}` reads it'),
    Remedy(rf"[+-]?\d{{1,3}}([{BLANKS}]\d{{3}})+,\d+", "`format: {decimal: ',', thousands: ' '}` reads it"),
    Remedy(
        r"[+-]?\d+([.,]\d+)?\s*[a-zA-Z°µ].*",
        "it has a unit; leave that out of the file, and declare it as `unit`",
    ),
    Remedy(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?", "`format: {decimal: ',', thousands: '.'}` reads it"),
    Remedy(r"[+-]?\d+,\d+", "`format: {decimal: ','}` reads it"),
    Remedy(CLOCK, "`type: duration` reads it"),
    Remedy(r"(?i)t|f|true|false|y|n|yes|no", "`type: flag` reads it"),
    Remedy(ISO_DATE + ".*", "`type: timestamp` reads it"),
)
WHOLE = (
    Remedy(r"[+-]?\d*\.\d*[1-9]\d*", "`type: number` reads it"),
    Remedy(
        r"[+-]?\d+(\.\d+)?[eE][+-]?\d+",
        "it was rounded where the file was written; `type: number` reads it, and as an id it is lost",
    ),
)
MOMENTS = (
    NUMBERS[0],
    Remedy(r"\d{1,2}([./-])\d{1,2}[./-]\d{4}", "say how, e.g. `format: {dates: '%d.%m.%Y'}`, or '%m/%d/%Y'"),
    Remedy(r"\d{1,2}([./-])\d{1,2}[./-]\d{4}[ T].*", "say how, e.g. `format: {dates: '%d.%m.%Y %H:%M'}`"),
    Remedy(ISO_DATE + ISO_TIME.removesuffix("?") + OFFSET, "`type: timestamp` reads it"),
)
REMEDIES = {
    ColumnType.INTEGER: (*WHOLE, *NUMBERS),
    ColumnType.NUMBER: NUMBERS,
    ColumnType.PERCENT: NUMBERS,
    ColumnType.CURRENCY: NUMBERS,
    ColumnType.DURATION: NUMBERS[:1],
    ColumnType.FLAG: NUMBERS[:1],
    ColumnType.TIMESTAMP: MOMENTS,
    ColumnType.DATE: MOMENTS,
}


def not_one(column: Column) -> str:
    """What stands behind a text that is not of the column's type."""
    name = WORDS.get(column.type, WORDS[column.type.stored])
    if column.joins:
        name = f"{column.type} of {', '.join(column.joins)}"
    return f"is not {'an' if name[0] in 'aeiou' else 'a'} {name}"


def explained(column: Column, text: str) -> str:
    """SQL of the message for a text that is not of the column's type: what would read it."""
    words = not_one(column)
    cases = "".join(
        f" when regexp_full_match({text}, {literal(remedy.pattern)}) then {literal(f'{words}; {remedy.words}')}"
        for remedy in REMEDIES.get(column.type, ())
        if f"type: {column.type}`" not in remedy.words
    )
    return f"case{cases} else {literal(words)} end" if cases else literal(words)
