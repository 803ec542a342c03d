"""Contradictions between the fields of a declaration."""

import codecs
import math
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

import dagster as dg
import sqlglot
from sqlglot import expressions as sql

from vroom_api.contract import OPTIONS, Kind, unfit_inputs
from vroom_assets.features.examples import TARGET_WINDOW
from vroom_assets.features.expressions import Feature
from vroom_assets.sources.cells import COUNTED
from vroom_assets.spec import (
    FACTOR,
    FAMILIES,
    MOST_VARIANTS,
    SUMS_OF_TERMS,
    TRANSFORMED,
    Candidate,
    Column,
    ColumnType,
    Family,
    ForecastSpec,
    Format,
    Takes,
)

# Names of assets and tables that every forecast has, and of folders in the home.
OWN_TABLES = (
    *("as_of", "challenger", "champion", "computed", "contest", "cv_metrics", "declaration", "features"),
    *("inputs", "online_features", "origin", "out_of_fold", "quarantine", "target", TARGET_WINDOW),
    *("drift", "feedback", "health", "outcomes", "performance", "predictions"),
)

OWN_FOLDERS = ("dagster", "mlflow")

NUMBER = r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?"  # which YAML reads as a text in quotes, and as `1e-3`

Contradiction = tuple[str, str]  # the field and what is wrong with it


def contradictions(spec: ForecastSpec, folder: str) -> Iterator[Contradiction]:
    """Where the fields contradict each other or use names that are taken, all of it at once.

    What depends on a reference is checked once all references are declared.
    """
    yield from _names(spec, folder)
    yield from _values(spec)
    missing = list(_references(spec))
    yield from missing
    if not missing:
        yield from _entity(spec)
        yield from _times(spec)
        yield from _models(spec)


def _names(spec: ForecastSpec, folder: str) -> Iterator[Contradiction]:
    if spec.name != folder:
        yield "name", f"{spec.name!r} is declared in the folder {folder!r}; give both one name"
    if spec.name in OWN_FOLDERS:
        yield "name", f"{spec.name!r} is a folder of the home; choose another name"
    for name in spec.examples:
        if name in spec.sources or name == "as_of":
            yield f"examples.{name}", "there is a source of that name; choose another"
    for part, tables in (("sources", spec.sources), ("examples", spec.examples)):
        for name in tables:
            if name in OWN_TABLES or name.removesuffix("_csv") in set(spec.sources) - {name}:
                yield f"{part}.{name}", "Vroom has a table or an asset of that name; choose another"


def _values(spec: ForecastSpec) -> Iterator[Contradiction]:
    """Values that a field's type cannot refuse."""
    try:
        dg.AssetSpec("any", owners=[spec.owner])
    except dg.DagsterInvalidDefinitionError:
        yield "owner", f"{spec.owner!r} is not a valid owner; write an e-mail address or `team:<name>`"
    try:
        dg.ScheduleDefinition(job_name="any", cron_schedule=spec.automation.schedule)
    except dg.DagsterInvalidDefinitionError:
        yield (
            "automation.schedule",
            f"{spec.automation.schedule!r} is not a valid cron expression; write five fields, e.g. `0 4 * * *`",
        )
    low, high = spec.gates.coverage
    if not 0 <= low <= high <= 1:
        yield "gates.coverage", f"[{low:g}, {high:g}] is not a valid range of shares; write e.g. [0.88, 0.94]"
    for name, source in spec.sources.items():
        for format_field, message in _format(source.format):
            yield f"sources.{name}.format.{format_field}", message
    for part, tables in (("sources", spec.sources), ("examples", spec.examples)):
        for name, table in tables.items():
            yield from _columns(f"{part}.{name}.columns", table.columns)
    for name, examples in spec.examples.items():
        yield from _of_a_file(f"examples.{name}.columns", examples.columns)


def _format(format: Format) -> Iterator[Contradiction]:
    """What a format cannot be."""
    try:
        if not getattr(codecs.lookup(format.encoding), "_is_text_encoding", True):
            raise LookupError
    except LookupError:
        yield (
            "encoding",
            f"{format.encoding!r} is not a text encoding that Python knows; write e.g. windows-1252 or utf-16",
        )
    if format.zone is not None and format.zone not in available_timezones():
        yield "zone", f"{format.zone!r} is not a time zone; write an IANA name, e.g. Europe/Vienna"
    if format.decimal == format.thousands:
        yield "thousands", f"{format.thousands!r} is before the fraction already; one of the two is wrong"
    if format.delimiter == format.quote or (not format.delimiter.isprintable() and format.delimiter != "\t"):
        yield "delimiter", f"{format.delimiter!r} cannot stand between cells; write one character, e.g. ';'"
    if format.escape in (format.quote, format.delimiter):
        yield "escape", f"{format.escape!r} has another meaning already; leave out one of the two"
    if format.quote.isalnum() or not format.quote.isprintable():
        yield "quote", f"{format.quote!r} cannot stand around cells; write one character, e.g. '\"'"
    if len(set(format.header)) != len(format.header):
        yield "header", "a name is there twice; name each column once"
    for pattern in format.dates:
        try:
            fitting = pattern in COUNTED or (
                bool(re.search("%[dejYy]", pattern)) and datetime(2024, 3, 1).strftime(pattern) != pattern
            )
        except ValueError:
            fitting = False
        if not fitting:
            yield "dates", f"{pattern!r} is not a way to write a date; write e.g. '%d.%m.%Y %H:%M:%S'"


def _references(spec: ForecastSpec) -> Iterator[Contradiction]:
    """References to names that are not declared."""
    columns = [("target.as_of", spec.target.as_of)] if spec.target.as_of is not None else []
    for name, examples in spec.examples.items():
        columns.append((f"examples.{name}.as_of.events", examples.as_of.events))
        yield from _declared(f"examples.{name}.columns", "as_of", examples.columns)
    for name, source in spec.sources.items():
        yield from _declared(f"sources.{name}.event_time", source.event_time, source.columns)
        yield from _declared(f"sources.{name}.load_time", source.load_time, source.columns)
        columns += [
            (f"sources.{name}.columns.{column_name}.references", column.references)
            for column_name, column in source.columns.items()
            if column.references
        ]
    for field, reference in columns:
        source_name, _, column_name = reference.partition(".")
        if source_name in spec.sources:
            yield from _declared(field, column_name, spec.sources[source_name].columns)
        else:
            yield from _declared(field, source_name, spec.sources)

    tables = [*spec.sources, *spec.examples]
    yield from _declared("entity.source", spec.entity.source, tables)
    if spec.entity.source in tables:
        table = spec.entity_columns
        yield from _declared("entity.key", spec.entity.key, table)
        yield from _declared("entity.id", spec.entity.id, table)
        yield from _declared("validation.group", spec.validation.group, table)
        yield from _declared("validation.order", spec.validation.order, table)
        for name in spec.entity.tags:
            yield from _declared("entity.tags", name, table)
        for name in spec.inputs:
            yield from _declared("inputs", name, table)
    for name, advice in spec.advice.items():
        yield from _declared(f"advice.{name}.lever", advice.lever, spec.inputs)
    for name, candidate in spec.candidates.items():
        for member in candidate.members:
            yield from _declared(f"candidates.{name}.members", member, spec.candidates)
    if spec.fallback is not None:
        yield from _declared("fallback.candidate", spec.fallback.candidate, spec.candidates)
        for name in spec.fallback.without:
            yield from _declared("fallback.without", name, spec.inputs)
    yield from _declared("target.due_input", spec.target.due_input, spec.inputs)
    yield from _declared("gates.reference", spec.gates.reference, spec.candidates)


def _declared(field: str, name: str | None, names: Collection[str]) -> Iterator[Contradiction]:
    if name is not None and name not in names:
        yield field, f"{name!r} is not declared; use one of {', '.join(names)}"


def _entity(spec: ForecastSpec) -> Iterator[Contradiction]:
    """What the columns of the entity's table cannot be used for."""
    table = spec.entity_columns
    if not (table[spec.entity.key].unique or table[spec.entity.key].type is ColumnType.ROW):
        yield "entity.key", f"{spec.entity.key} identifies a row; declare it `unique: true`"
    for name in spec.entity.tags:
        if table[name].type.stored is not ColumnType.TEXT:
            yield "entity.tags", f"{name} is not of type text; name a column of type text"
    for name in unfit_inputs(spec.inputs):
        if name in OPTIONS:
            taken = ", ".join(OPTIONS)
            yield (
                "inputs",
                f"{name} is a field of every request, as are {taken}; give the column another name",
            )
        else:
            yield "inputs", f"{name} is there twice; name it once"
    for name, column in spec.input_columns.items():
        if column.type is ColumnType.TEXT and not column.values:
            yield (
                "inputs",
                f"{name} is a text; declare its allowed `values`, or `type: category`, whose values are learnt from the data",
            )
    without = spec.fallback.without if spec.fallback is not None else []
    for name in without:
        if table[name].nullable:
            yield "fallback.without", f"{name} is nullable and may already be left out"
    for name, advice in spec.advice.items():
        lever = table[advice.lever]
        if lever.type.stored is ColumnType.TEXT or lever.is_time or lever.nullable:
            yield f"advice.{name}.lever", f"{advice.lever} has to be a number that is always given"
        if advice.lever in without:
            yield f"advice.{name}.lever", f"{advice.lever} may be left out, by fallback.without"


def _models(spec: ForecastSpec) -> Iterator[Contradiction]:
    """Candidates that are not for the kind of target."""
    fitting = FAMILIES[spec.target.kind]
    for name, candidate in spec.candidates.items():
        if candidate.family not in fitting:
            yield (
                f"candidates.{name}.family",
                f"{candidate.family} is not for a {spec.target.kind}; use one of {', '.join(sorted(fitting))}",
            )
        for parameter, value in candidate.parameters.items():
            for text in _texts(value):
                if re.fullmatch(NUMBER, text):
                    yield (
                        f"candidates.{name}.parameters.{parameter}",
                        f"{text!r} is a text; write {Decimal(text):f}, without quotes and exponent",
                    )
        yield from _several(f"candidates.{name}.parameters", candidate)
        # Of several combinations some share a fault.
        yield from dict.fromkeys(
            fault
            for one in candidate.variants[:MOST_VARIANTS]
            for fault in _amounts(f"candidates.{name}", one, spec.target.kind)
        )
        for field in ("bins", "ranks"):
            if getattr(candidate, field) and candidate.family not in SUMS_OF_TERMS:
                yield (
                    f"candidates.{name}.{field}",
                    f"it is not for {candidate.family}; use one of {', '.join(SUMS_OF_TERMS)}, or leave it out",
                )
        if candidate.calibration and not spec.target.kind.is_probability:
            yield f"candidates.{name}.calibration", "it is for a binary target, leave it out"


def _several(field: str, candidate: Candidate) -> Iterator[Contradiction]:
    """What cannot be tried of parameters with several values."""
    for parameter, values in candidate.several.items():
        if not values:
            yield (
                f"{field}.{parameter}",
                "the list is empty; write the values to try, or leave the parameter out",
            )
        elif any(isinstance(value, list | dict) for value in values):
            yield f"{field}.{parameter}", "each of several values is a number, a word, true, false or null"
        elif len({repr(value) for value in values}) != len(values):
            yield f"{field}.{parameter}", "a value is there twice; write it once"
    number = math.prod(len(values) for values in candidate.several.values())
    if number > MOST_VARIANTS:
        factors = " × ".join(f"{len(values)} of {name}" for name, values in candidate.several.items())
        yield (
            field,
            f"{number} combinations of values are too many ({factors}); each is fitted on every inner fold: leave at "
            f"most {MOST_VARIANTS}",
        )
    listed = candidate.parameters.get("interactions")
    if isinstance(listed, list) and not all(isinstance(one, list) for one in listed):
        yield (
            f"{field}.interactions",
            "a list here names pairs of features, so its values cannot be tried; write one number",
        )


def _amounts(field: str, candidate: Candidate, kind: Kind) -> Iterator[Contradiction]:
    """What candidates for amounts cannot be."""
    if candidate.transform is not None:
        if kind is not Kind.REGRESSION:
            yield f"{field}.transform", "it is for a regression, leave it out"
        elif candidate.family not in TRANSFORMED:
            yield (
                f"{field}.transform",
                f"it is not for {candidate.family}; use one of {', '.join(TRANSFORMED)}",
            )
        elif (loss := candidate.values.get(candidate.loss_parameter)) in ("gamma", "poisson", "tweedie"):
            yield f"{field}.transform", f"a {loss} loss is not for logarithms; leave one of the two out"
    if candidate.trend is not None:
        if kind.is_probability:
            yield f"{field}.trend", "it is not for a probability, leave it out"
        elif candidate.family in (Family.AVERAGE, Family.FEATURE, Family.MEDIAN):
            yield (
                f"{field}.trend",
                f"it is not for {candidate.family}; give it to a model, or to a member of the average",
            )
        for other in ("offset", "transform"):
            if getattr(candidate, other) is not None:
                yield f"{field}.trend", f"it cannot be beside {other}; leave one of the two out"
    power = candidate.power
    if candidate.family is Family.TWEEDIE_GLM and not (power == 0 or power >= 1):
        yield (
            f"{field}.parameters.power",
            f"there is no distribution of power {power:g}; use 1 to 2 for amounts of which some are 0, 2 and above for "
            "amounts above 0",
        )
    demand = candidate.demand
    if candidate.offset is not None and demand is not None and demand.takes is Takes.POSITIVE:
        yield (
            f"{field}.offset",
            f"{demand.words} is for targets {demand.takes}, which the rest beside an offset is not; leave it out",
        )


def _texts(value: Any) -> Iterator[str]:
    """The texts in a parameter, also within lists and mappings."""
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            yield from _texts(list(value.values()))


def declared_target(spec: ForecastSpec) -> tuple[str, Column] | None:
    """The column that target.sql passes on as the target, and its name; None where it computes it, or leaves rows out."""
    statement = sqlglot.parse_one(spec.target_sql, dialect="duckdb")
    if not isinstance(statement, sql.Select) or statement.find(
        sql.Where, sql.Having, sql.Qualify, sql.Group, sql.With, sql.Subquery
    ):
        return None
    given = {one.alias_or_name: one.unalias() for one in statement.expressions}
    column = given.get(spec.target.name)
    if not isinstance(column, sql.Column):
        return None
    tables = {name: one.columns for name, one in (spec.sources | spec.examples).items()}
    read = {one.alias_or_name: one.name for one in statement.find_all(sql.Table)}
    found = [
        (f"{table}.{column.name}", tables[table][column.name])
        for alias, table in read.items()
        if column.table in ("", alias) and column.name in tables.get(table, {})
    ]
    return found[0] if len(found) == 1 else None


def demands(spec: ForecastSpec) -> Iterator[Contradiction]:
    """Candidates that cannot be fitted on targets that are declared as possible."""
    known = declared_target(spec)
    if known is None:
        return
    name, column = known
    for candidate_name, candidate in spec.candidates.items():
        demand = candidate.demand
        if demand is None or demand.takes.is_declared(column):
            continue
        if demand.takes.holds(spec.target.kind.lowest if spec.target.kind.lowest is not None else -1):
            continue
        bound = "above: 0" if demand.takes is Takes.POSITIVE else "minimum: 0"
        yield (
            f"candidates.{candidate_name}.{demand.field}",
            f"{demand.words} is for targets {demand.takes}, and {name} may be {column.range or 'any number'}; declare "
            f"`{bound}` there, or leave such rows out in target.sql, or choose another",
        )


def _columns(field: str, columns: dict[str, Column]) -> Iterator[Contradiction]:
    for name, column in columns.items():
        bounds = [bound for bound in (column.minimum, column.above) if bound is not None]
        if column.maximum is not None and bounds and max(bounds) > column.maximum:
            yield (
                f"{field}.{name}",
                f"no value is {column.range}; the lower bound has to be below the upper one",
            )
        times = [time for time in (column.earliest, column.latest) if time is not None]
        if column.type.stored is ColumnType.TIMESTAMP:
            if bounds or column.maximum is not None:
                yield (
                    f"{field}.{name}",
                    "a timestamp has a period and no range; write earliest and latest "
                    "instead of minimum, above and maximum",
                )
            if len(times) == 2 and times[0] > times[1]:
                yield f"{field}.{name}.earliest", f"{times[0]} comes after latest, {times[1]}"
        elif times:
            yield f"{field}.{name}", f"a {column.type} has no period; leave earliest and latest out"
        elif column.type.stored is ColumnType.TEXT and (bounds or column.maximum is not None):
            yield f"{field}.{name}", "a text has no range; leave minimum, above and maximum out"


def _of_a_file(field: str, columns: dict[str, Column]) -> Iterator[Contradiction]:
    """What only a column of a file can be."""
    for name, column in columns.items():
        if column.header is not None:
            yield (
                f"{field}.{name}.header",
                "a table of examples is not a file; leave it out, and name the column in the statement",
            )
        if column.joins:
            yield (
                f"{field}.{name}.joins",
                "a table of examples is not a file; leave it out, and name the time in the statement",
            )
        if column.type is ColumnType.ROW:
            yield (
                f"{field}.{name}.type",
                "rows of a table of examples have no numbers; declare a column that tells them apart",
            )


def _times(spec: ForecastSpec) -> Iterator[Contradiction]:
    """The columns that say when, and are not timestamps."""
    named = [("target.as_of", spec.target.as_of)] if spec.target.as_of is not None else []
    named += [(f"examples.{name}.as_of.events", one.as_of.events) for name, one in spec.examples.items()]
    named += [
        (f"sources.{name}.{field}", f"{name}.{column}")
        for name, source in spec.sources.items()
        for field in ("event_time", "load_time")
        if (column := getattr(source, field)) is not None
    ]
    for field, reference in named:
        source, _, column = reference.partition(".")
        kind = spec.sources[source].columns[column].type
        if kind.stored is not ColumnType.TIMESTAMP:
            yield field, f"{reference} is of type {kind}; name a column of type timestamp"
    if spec.target.window_days is not None and spec.entity.source in spec.examples:
        yield "target.window_days", "the target of an example has `as_of.horizon_days`; leave window_days out"
    if spec.target.window_days is not None and spec.target.as_of is None:
        yield "target.window_days", "the window ends at the latest time of `as_of`; name that column"
    yield from _horizon(spec)
    for name, examples in spec.examples.items():
        if examples.columns["as_of"].type.stored is not ColumnType.TIMESTAMP:
            yield f"examples.{name}.columns.as_of", "it is a time; declare it `type: timestamp`"
    if (order := spec.validation.order) is not None:
        if spec.entity_columns[order].type.stored is not ColumnType.TIMESTAMP:
            yield "validation.order", f"{order} is not a timestamp; name a column of type timestamp"
        if spec.target.known_at is None:
            yield (
                "target.known_at",
                "ordered validation trains on targets that were known in time; "
                "name the column of target.sql that says when they were",
            )


def _horizon(spec: ForecastSpec) -> Iterator[Contradiction]:
    """What cannot say when a prediction falls due."""
    name = spec.target.due_input
    if name is None:
        return
    for other in ("due_days", "window_days"):
        if getattr(spec.target, other) is not None:
            yield "target.due_input", f"{other} says already when a target is known; leave one of the two out"
    column = spec.input_columns[name]
    if column.type.stored not in (ColumnType.INTEGER, ColumnType.NUMBER) or column.is_time:
        yield "target.due_input", f"{name} is of type {column.type}; name an input that is a number of days"


def _fallback(spec: ForecastSpec, features: Sequence[Feature]) -> str | None:
    """What the fallback's candidate reads and has to do without."""
    if spec.fallback is None:
        return None
    candidate = spec.candidates[spec.fallback.candidate]
    both = [candidate, *(spec.candidates[member] for member in candidate.members)]
    read = {feature for one in both for feature in (*one.features, one.offset, one.trend)}
    for feature in features:
        missed = feature.inputs & set(spec.fallback.without)
        if feature.name in read and missed:
            return (
                f"{spec.fallback.candidate} reads the feature {feature.name}, which needs "
                f"{', '.join(sorted(missed))}; choose a candidate that does without"
            )
    return None


def _by_order(candidate: Candidate, spec: ForecastSpec) -> Iterator[Contradiction]:
    """What cannot enter as bins or as a rank: field and message."""
    categories = {feature.name for feature in spec.features if feature.category is not None}
    features = {feature.name for feature in spec.features}
    times = {name for name, column in spec.input_columns.items() if column.is_time} - features
    powers = {feature for term in candidate.terms for feature, _ in re.findall(FACTOR, term)}
    for field, feature in [
        *((f"bins.{feature}", feature) for feature in candidate.bins),
        *((f"ranks.{number}", feature) for number, feature in enumerate(candidate.ranks)),
    ]:
        if feature in categories:
            yield field, f"{feature} is a category, which has columns of its own already; leave it out here"
        elif feature in times:
            yield (
                field,
                f"{feature} is a time; name a number that features.sql makes of it, as `hour({feature})`",
            )
        elif feature not in candidate.features:
            own = ", ".join(candidate.features)
            yield (
                field,
                f"{feature!r} is not one of the candidate's features ({own}); name one, or add it there",
            )
        elif candidate.terms and field.startswith("ranks") and feature not in powers:
            yield (
                field,
                f"{feature} is in none of the terms, so that its rank has no effect; add it to `terms`",
            )
    for feature in candidate.bins:
        if feature in candidate.ranks:
            yield f"bins.{feature}", f"{feature} is in ranks too; leave one of the two out"
    for number, term in enumerate(candidate.terms):
        for feature, _ in re.findall(FACTOR, term):
            if feature in candidate.bins:
                yield (
                    f"terms.{number}",
                    f"{feature} enters as bins, which are terms of their own; leave it out of {term!r}, or give it another "
                    "name in features.sql to use it both ways",
                )


def _where(candidate: Candidate, feature: str) -> str:
    """The field that names a feature of a candidate: those that are not listed are those of terms, bins and ranks."""
    terms = [
        f"terms.{number}"
        for number, term in enumerate(candidate.terms)
        if feature in re.findall(r"\w+", term)
    ]
    bins = [f"bins.{feature}"] if feature in candidate.bins else []
    ranks = [f"ranks.{number}" for number, one in enumerate(candidate.ranks) if one == feature]
    return [*terms, *bins, *ranks, "features"][0]


def _candidate(
    candidate: Candidate, features: list[str], candidates: dict[str, Candidate]
) -> Iterator[Contradiction]:
    """What a candidate reads that is not there: field and message."""
    declared = f"features.sql has {', '.join(features)}"
    for feature in candidate.features:
        if feature not in features:
            yield _where(candidate, feature), f"{feature!r} is not a feature; {declared}"
    if candidate.offset is not None and candidate.offset not in features:
        yield "offset", f"{candidate.offset!r} is not a feature; {declared}"
    if candidate.trend is not None and candidate.trend not in features:
        yield "trend", f"{candidate.trend!r} is not a feature; {declared}"
    if candidate.trend in candidate.features:
        yield "trend", f"{candidate.trend} is the trend, leave it out of the candidate's features"
    for number, term in enumerate(candidate.terms):
        factors = [re.fullmatch(FACTOR, factor) for factor in term.split("*")]
        if not all(factor and factor[1] in candidate.features for factor in factors):
            yield (
                f"terms.{number}",
                f"{term!r} is not a product of its features ({', '.join(candidate.features)}); "
                "write `a`, `a * b` or `a ^ 2`, with powers up to 9",
            )
    if candidate.family is Family.AVERAGE:
        if not candidate.members:
            yield "members", "an average needs members; name the candidates that it averages"
        for member in candidate.members:
            if candidates[member].family is Family.AVERAGE:
                yield "members", f"{member!r} is an average itself; name its members"
    elif candidate.family is Family.FEATURE and len(candidate.features) != 1:
        yield (
            "features",
            f"a candidate of family feature passes on one feature; {len(candidate.features)} are named, name one",
        )
    elif not candidate.features and candidate.family not in (Family.MEAN, Family.MEDIAN):
        yield "features", f"it has no features; {declared}, name some of them"
