"""The rules of cells as Spark reads them: the same SQL, word by word, with nothing that Spark would take otherwise.

Each of DuckDB's words that the rules use is written as what means the same in Spark; another word is refused, as is a
pattern that Java's expressions and RE2 might read in two ways.
"""

from __future__ import annotations

import re
import unicodedata

from sqlglot import exp, parse_one

# What DuckDB trims: the spaces of all scripts, but neither tabs nor control characters.
SPACES = "".join(chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Zs")
ESCAPED = re.compile(r"\\(?:[^a-zA-Z0-9]|[dAztnfr])")
CLASS = re.compile(r"\[\^?(?:[^\[\]&]|&(?!&))+\]")
TWO_WAYS = re.compile(r"[.^$\\\[\]]|\(\?(?!:)|[+*?}][+]")
# Written alike in both.
ALIKE = (
    *(exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.And, exp.Or, exp.Not, exp.In, exp.Is),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Case, exp.If, exp.Coalesce, exp.Nullif),
    *(exp.Add, exp.Sub, exp.Mul, exp.Mod, exp.Neg, exp.DPipe, exp.Array, exp.Replace, exp.Contains, exp.StartsWith),
    *(exp.SplitPart, exp.Var, exp.DataType, exp.Chr),
)  # fmt: skip
TYPES = {"BIGINT", "INT", "DOUBLE", "TEXT", "TIMESTAMPNTZ"}


class NotOnSpark(Exception):
    """Something that Spark does not do as DuckDB does; the message names it."""


def to_spark(sql: str) -> str:
    """An expression of the rules of cells, as Spark has it.

    Raises:
        NotOnSpark: a word of it is not known to mean the same.
    """
    return _rewritten(parse_one(sql, read="duckdb")).sql(dialect="spark")


def literal(text: str) -> str:
    """A text as Spark's SQL writes it."""
    return exp.Literal.string(text).sql(dialect="spark")


def pattern(written: str) -> str:
    """A regular expression, as SQL, that Java's engine reads as RE2 does.

    Raises:
        NotOnSpark: it may mean something else there.
    """
    if found := TWO_WAYS.search(CLASS.sub("x", ESCAPED.sub("x", written))):
        raise NotOnSpark(f"the pattern {written!r}: {found[0]!r} may mean something else in Spark")
    return literal(written)


def _rewritten(node: exp.Expr) -> exp.Expr:
    for child in list(node.iter_expressions()):
        changed = _rewritten(child)
        if changed is not child:
            child.replace(changed)
    if isinstance(node, ALIKE):
        return node
    written = _written(node)
    return node if written is None else exp.Var(this=written)


def _written(node: exp.Expr) -> str | None:
    """SQL of what is written otherwise in Spark, None for what is not."""

    def part(name: str = "this") -> str:
        return str(node.args[name].sql(dialect="spark"))

    match node:
        case exp.RegexpFullMatch():
            whole = pattern(rf"\A(?:{node.expression.name})\z")
            return f"({part()} rlike {whole})"
        case exp.RegexpLike():
            return f"({part()} rlike {pattern(node.expression.name)})"
        case exp.RegexpExtract():
            return f"regexp_extract({part()}, {pattern(node.expression.name)}, {part('group')})"
        case exp.RegexpReplace() if node.args.get("modifiers") or node.expression.name.endswith(r"\z"):
            return f"regexp_replace({part()}, {pattern(node.expression.name)}, {part('replacement')})"
        case exp.Trim():
            trimmed = part("expression") if node.expression else literal(SPACES)
            return f"trim({node.args.get('position') or 'BOTH'} {trimmed} from {part()})"
        case exp.Lower():
            return f"lower(replace({part()}, '\u0130', 'i'))"  # which Java writes as two characters
        case exp.Bracket() if len(node.expressions) == 1:
            return f"get({part()}, {node.expressions[0].sql(dialect='spark')})"
        case exp.UnixToTime():
            return f"cast(timestamp_micros(cast(rint({node.this.this.sql(dialect='spark')}) as bigint)) as timestamp_ntz)"
        case exp.TimestampTrunc():
            return f"cast(date_trunc('{node.args['unit'].name}', {part()}) as timestamp_ntz)"
        case exp.TryCast() if node.to.this.name == "TIMESTAMPTZ":
            return _with_offset(part())
        case exp.Cast() if node.to.this.name in TYPES:
            return None
        case exp.Anonymous():
            return _called(node.name.lower(), node.expressions)
    raise NotOnSpark(f"{node.sql(dialect='duckdb')[:80]}: no rule has it for Spark")


def _called(name: str, given: list[exp.Expr]) -> str:
    arguments = [one.sql(dialect="spark") for one in given]
    match name:
        case "isfinite":
            return f"(abs({arguments[0]}) < cast('Infinity' as double))"
        case "list_position":
            return f"array_position({', '.join(arguments)})"
        case "timezone":  # of a time in UTC is that time; of a local one, here, what it is in UTC
            return arguments[1] if given[0].name == "UTC" else _in_utc(arguments[1], given[0].name)
        case "try_strptime":
            return f"coalesce({', '.join(_parsed(arguments[0], way.name) for way in given[1].expressions)}, null)"
    raise NotOnSpark(f"{name}: no rule has it for Spark")


def _with_offset(text: str) -> str:
    """A time with its offset from UTC, of up to a day, where Java knows 18 hours."""
    found, offset = literal(r"([+-])(\d\d):?(\d\d)?\z"), literal(r"(Z|[+-]\d\d(:?\d\d)?)\z")
    hours, minutes = (
        f"coalesce(try_cast(regexp_extract({text}, {found}, {group}) as int), 0)" for group in (2, 3)
    )
    sign = f"case when regexp_extract({text}, {found}, 1) = '-' then 1 else -1 end"
    bare = f"regexp_replace({text}, {offset}, '')"
    return f"timestampadd(MINUTE, {sign} * ({hours} * 60 + {minutes}), try_cast({bare} as timestamp_ntz))"


def _in_utc(local: str, zone: str) -> str:
    """A local time in UTC: one that clocks show twice is the later one, which Spark alone would not take."""
    day = 25  # hours; clocks were never set back by more than a day

    def at(time: str, source: str, target: str) -> str:
        return f"convert_timezone({literal(source)}, {literal(target)}, {time})"

    once = at(local, zone, "UTC")
    later = f"timestampadd(HOUR, -{day}, {at(f'timestampadd(HOUR, {day}, {local})', zone, 'UTC')})"
    return f"case when {at(later, 'UTC', zone)} = {local} then greatest({once}, {later}) else {once} end"


# Of a notation: the group that reads it, as often as DuckDB's reader takes digits, and never fewer.
BLANK = r"[ \t\n\x0B\f\r]"
TWO, FOUR = r"(\d\d|\d(?!\d))", r"(\d{4}|\d{1,3}(?!\d))"
SHORT = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LONG = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")  # fmt: skip
GROUPS = dict.fromkeys("dmyHIMS", TWO) | {
    "Y": FOUR,
    "p": "(?i:([ap]m))",
    "b": f"(?i:({'|'.join(SHORT)}))",
    "B": f"(?i:({'|'.join(LONG)}))",
}


def _parsed(text: str, way: str) -> str:
    """A time by a notation, as `strptime` of DuckDB takes it: blanks around count for nothing, digits may be fewer."""
    marks = re.findall("%(.)", way)
    if unknown := [mark for mark in marks if mark not in GROUPS] or [m for m in marks if marks.count(m) > 1]:
        raise NotOnSpark(f"the notation {way!r} of `dates`: %{unknown[0]}")
    pieces = re.split(r"(%.|\s+)", way)
    read = "".join(
        GROUPS[piece[1]] if piece.startswith("%") else f"{BLANK}+" if piece.isspace() else re.escape(piece)
        for piece in pieces
    )
    whole = literal(rf"\A{BLANK}*{read}{BLANK}*\z")
    found = {mark: f"regexp_extract({text}, {whole}, {group})" for group, mark in enumerate(marks, 1)}
    number = {mark: f"try_cast({piece} as int)" for mark, piece in found.items()}
    year = number.get("Y", "1900")
    if "y" in number:
        year = f"(case when {number['y']} < 69 then 2000 else 1900 end + {number['y']})"
    month = number.get("m", "1")
    for mark, names in (("b", SHORT), ("B", LONG)):
        if mark in found:
            month = (
                f"cast(array_position(array({', '.join(map(literal, names))}), lower({found[mark]})) as int)"
            )
    hour = number.get("H", number.get("I", "0"))
    holds = [f"{text} rlike {whole}"]
    if "I" in number:
        holds.append(f"{number['I']} between 1 and 12")
    if "p" in found:
        holds.append(f"{hour} <= 12")
        hour = f"({hour} % 12 + case when lower({found['p']}) = 'pm' then 12 else 0 end)"
    if "S" in number:
        holds.append(f"{number['S']} < 60")
    made = f"try_make_timestamp_ntz({year}, {month}, {number.get('d', '1')}, {hour}, {number.get('M', '0')}, {number.get('S', '0')})"
    return f"case when {' and '.join(holds)} then {made} end"
