"""What the fields of a declaration must not say of each other."""

import re
from collections.abc import Iterator

import dagster as dg

from vroom_assets.features.expressions import Feature, inputs_of
from vroom_assets.spec import FACTOR, Candidate, Column, ColumnType, Family, ForecastSpec

# Names of assets and tables that every forecast has, and of folders in the home.
OWN_TABLES = (
    *("as_of", "challenger", "champion", "computed", "contest", "cv_metrics", "declaration", "features"),
    *("inputs", "online_features", "origin", "out_of_fold", "quarantine", "target"),
)

OWN_FOLDERS = ("dagster", "mlflow")


def _contradictions(spec: ForecastSpec, folder: str) -> Iterator[tuple[str, str]]:
    """What the fields say against each other or against the names that are taken: field and message."""
    if spec.name != folder:
        yield "name", f"{spec.name!r} is declared in the folder {folder!r}; give both one name"
    if spec.name in OWN_FOLDERS:
        yield "name", f"{spec.name!r} is a folder of the home; choose another name"
    try:
        dg.AssetSpec("any", owners=[spec.owner])
    except dg.DagsterInvalidDefinitionError:
        yield "owner", f"{spec.owner!r} is no owner; write an e-mail address or `team:<name>`"
    try:
        dg.ScheduleDefinition(job_name="any", cron_schedule=spec.automation.schedule)
    except dg.DagsterInvalidDefinitionError:
        yield (
            "automation.schedule",
            f"{spec.automation.schedule!r} is no cron; write five fields, e.g. `0 4 * * *`",
        )
    low, high = spec.gates.coverage
    if not 0 <= low <= high <= 1:
        yield "gates.coverage", f"[{low:g}, {high:g}] is no range of shares; write e.g. [0.88, 0.94]"
    for part, tables in (("sources", spec.sources), ("examples", spec.examples)):
        for name, table in tables.items():
            if name in OWN_TABLES or name.removesuffix("_csv") in set(spec.sources) - {name}:
                yield f"{part}.{name}", "Vroom has a table or an asset of that name; choose another"
            yield from _columns(f"{part}.{name}.columns", table.columns)
    key = spec.entity_columns[spec.entity.key]
    if not key.unique:
        yield "entity.key", f"{spec.entity.key} tells one row from another; declare it `unique: true`"
    yield from _times(spec)


def _columns(field: str, columns: dict[str, Column]) -> Iterator[tuple[str, str]]:
    for name, column in columns.items():
        bounds = [bound for bound in (column.minimum, column.above) if bound is not None]
        if column.maximum is not None and bounds and max(bounds) > column.maximum:
            yield (
                f"{field}.{name}",
                f"no value is {column.range}; the lower bound has to be below the upper one",
            )
        if column.type in (ColumnType.TEXT, ColumnType.TIMESTAMP) and (bounds or column.maximum is not None):
            yield f"{field}.{name}", f"a {column.type} has no range; leave minimum, above and maximum out"


def _times(spec: ForecastSpec) -> Iterator[tuple[str, str]]:
    """The columns that say when, and are no timestamps."""
    named = [("target.as_of", spec.target.as_of)]
    named += [(f"examples.{name}.as_of.events", one.as_of.events) for name, one in spec.examples.items()]
    named += [
        (f"sources.{name}.{field}", f"{name}.{column}")
        for name, source in spec.sources.items()
        for field in ("event_time", "load_time")
        if (column := getattr(source, field)) is not None
    ]
    for field, reference in named:
        source, _, column = reference.partition(".")
        if (said := spec.sources[source].columns[column].type) is not ColumnType.TIMESTAMP:
            yield field, f"{reference} is of type {said}; name a column of type timestamp"
    for name, examples in spec.examples.items():
        if examples.columns["as_of"].type is not ColumnType.TIMESTAMP:
            yield f"examples.{name}.columns.as_of", "it is a time; declare it `type: timestamp`"


def _fallback(spec: ForecastSpec, features: list[Feature]) -> str | None:
    """What the fallback's candidate reads and has to do without."""
    if spec.fallback is None:
        return None
    candidate = spec.candidates[spec.fallback.candidate]
    both = [candidate, *(spec.candidates[member] for member in candidate.members)]
    read = {feature for one in both for feature in (*one.features, one.offset)}
    for feature in features:
        missed = inputs_of(feature) & set(spec.fallback.without)
        if feature.name in read and missed:
            return (
                f"{spec.fallback.candidate} reads the feature {feature.name}, which needs "
                f"{', '.join(sorted(missed))}; choose a candidate that does without"
            )
    return None


def _candidate(
    candidate: Candidate, features: list[str], candidates: dict[str, Candidate]
) -> Iterator[tuple[str, str]]:
    """What a candidate reads that is not there: field and message."""
    known = f"features.sql has {', '.join(features)}"
    for feature in candidate.features:
        if feature not in features:
            yield "features", f"{feature!r} is no feature; {known}"
    if candidate.offset is not None and candidate.offset not in features:
        yield "offset", f"{candidate.offset!r} is no feature; {known}"
    for number, term in enumerate(candidate.terms):
        factors = [re.fullmatch(FACTOR, factor) for factor in term.split("*")]
        if not all(factor and factor[1] in candidate.features for factor in factors):
            yield (
                f"terms.{number}",
                f"{term!r} is no product of its features ({', '.join(candidate.features)}); "
                "write `a`, `a * b` or `a ^ 2`, with powers up to 9",
            )
    if candidate.family is Family.AVERAGE:
        if not candidate.members:
            yield "members", "an average needs some; name the candidates that it averages"
        for member in candidate.members:
            if candidates[member].family is Family.AVERAGE:
                yield "members", f"{member!r} is an average itself; name its members"
    elif candidate.family is Family.FEATURE and len(candidate.features) != 1:
        yield (
            "features",
            f"a candidate of family feature passes on one; {len(candidate.features)} are named, name one",
        )
    elif not candidate.features and candidate.family not in (Family.MEAN, Family.MEDIAN):
        yield "features", f"it sees none; name some of what {known}"
