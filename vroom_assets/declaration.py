"""A declaration as files: read whole, or refused with file, line, field and remedy of what is wrong.

What is wrong is looked for in three rounds, each over what the one before has found sound: the text of
``defs.yaml`` and the types of its fields, what the fields say of each other, and the statements beside it.
A round says all that it finds.
"""

import os
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dagster as dg
import yaml
from dagster_shared.yaml_utils import parse_yamls_with_source_position
from dagster_shared.yaml_utils.source_position import SourcePositionTree, ValueAndSourcePositionTree
from pydantic import Field, ValidationError

from vroom_assets import statements
from vroom_assets.features import Feature, FeatureError, inputs_of, parse
from vroom_assets.spec import FACTOR, Candidate, Column, ColumnType, Declared, Family, ForecastSpec

FILE = "defs.yaml"
SCHEMA = Path(__file__).parents[1] / "docs" / "forecast.schema.json"
# Names of assets and tables that every forecast has, and of folders in the home.
OWN_TABLES = (
    *("as_of", "challenger", "champion", "computed", "contest", "cv_metrics", "declaration", "features"),
    *("inputs", "online_features", "origin", "out_of_fold", "quarantine", "target"),
)
OWN_FOLDERS = ("dagster", "mlflow")
FROM_FILES = ("features_sql", "target_sql", "examples_sql")

Key = str | int


class DeclarationFile(Declared):
    """A forecast, declared: what stands in defs.yaml."""

    type: Literal["vroom_assets.forecast.Forecast"]
    attributes: ForecastSpec
    post_processing: dict[str, Any] | None = Field(
        None, description="changes to the assets made from this, by Dagster's own rules"
    )


class Finding(NamedTuple):
    """One thing that is wrong, and where; the message says what to do."""

    path: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        path = self.path.absolute()
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return ": ".join(filter(None, (f"{shown}:{self.line}", self.field, self.message)))


class DeclarationError(Exception):
    """A declaration that cannot be used; the message has a line for each finding."""

    def __init__(self, findings: Sequence[Finding]):
        self.findings = list(findings)
        super().__init__("\n".join(map(str, findings)))


def defs_folder() -> Path:
    """Where the forecasts are declared: VROOM_DEFS, else ``defs`` in this package."""
    return Path(os.environ.get("VROOM_DEFS") or Path(__file__).parent / "defs").absolute()


def folders() -> list[Path]:
    """The folder of each forecast, in order of their names."""
    found = defs_folder()
    if not found.is_dir():
        return []
    return sorted(path for path in found.iterdir() if path.is_dir() and path.name[0] not in "._")


def read(folder: Path) -> ForecastSpec:
    """The forecast that a folder declares, with its statements.

    Raises:
        DeclarationError: it cannot be used.
    """
    document = _Document(folder / FILE)
    spec = document.spec()
    _refuse(
        document.finding(f"attributes.{field}", message)
        for field, message in _contradictions(spec, folder.name)
    )
    spec = _with_statements(document, spec, folder)
    _refuse(_wrong_statements(document, spec, folder))
    return spec


def check_parameters(folder: Path, spec: ForecastSpec) -> None:
    """Make every estimator, without fitting it: what its library says of the declared parameters.

    This imports the libraries, so it is no part of `read`.

    Raises:
        DeclarationError: one does not take its parameters.
    """
    from vroom_assets import models

    document = _Document(folder / FILE)
    found = []
    for name, candidate in spec.candidates.items():
        try:
            models.check_parameters(name, candidate)
        except models.CandidateError as error:
            found.append(document.finding(f"attributes.candidates.{name}.parameters", str(error)))
    _refuse(iter(found))


def schema() -> dict[str, Any]:
    """The JSON schema of defs.yaml."""
    made = DeclarationFile.model_json_schema()
    for name in FROM_FILES:
        del made["$defs"]["ForecastSpec"]["properties"][name]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made


def with_statements(spec: ForecastSpec, folder: Path) -> ForecastSpec:
    """The declaration together with the SQL that stands beside it."""
    return spec.model_copy(
        update={
            "features_sql": (folder / "features.sql").read_text(encoding="utf-8"),
            "target_sql": (folder / "target.sql").read_text(encoding="utf-8"),
            "examples_sql": {
                name: (folder / f"{name}.sql").read_text(encoding="utf-8") for name in spec.examples
            },
        }
    )


def _refuse(findings: Iterator[Finding]) -> None:
    if found := sorted(findings, key=lambda one: (one.path, one.line)):
        raise DeclarationError(found)


class _Document:
    """defs.yaml with the line of every field."""

    def __init__(self, path: Path):
        self.path = path
        self._parsed = self._parse()

    def spec(self) -> ForecastSpec:
        try:
            spec = DeclarationFile.model_validate(self._parsed.value).attributes
        except ValidationError as error:
            _refuse(self._invalid(one) for one in error.errors())
            raise
        given = self._parsed.value["attributes"]
        _refuse(
            self.finding(f"attributes.{name}", "it is read from the .sql file beside this one; leave it out")
            for name in FROM_FILES
            if name in given
        )
        return spec

    def finding(self, field: str | Sequence[Key], message: str) -> Finding:
        """What is wrong with a field, at its line, or at that of what should have held it."""
        path = field.split(".") if isinstance(field, str) else list(field)
        tree, value = self._parsed.source_position_tree, self._parsed.value
        for key in path:
            step = int(key) if isinstance(value, list) and str(key).isdigit() else key
            if step not in tree.children:
                break
            tree, value = tree.children[step], value[step]
        else:
            tree = _child_that_begins(message, tree, value)
        shown = path[1:] if path[:1] == ["attributes"] and len(path) > 1 else path
        return Finding(self.path, tree.position.start.line, ".".join(map(str, shown)), message)

    def _invalid(self, error: Any) -> Finding:
        """A finding of pydantic, or of a validator of ours that begins its message with a field."""
        path = list(error["loc"])
        if path and path[-1] == "[key]":
            path = path[:-2]
        match error["type"]:
            case "missing":
                about = _fields_at(path[:-1]).get(path[-1], {}).get("description")
                return self.finding(path, f"is missing; add it{f': {about}' if about else ''}")
            case "extra_forbidden":
                known = [name for name in _fields_at(path[:-1]) if name not in FROM_FILES]
                like = get_close_matches(str(path[-1]), known, n=1)
                meant = f"did you mean {like[0]}? There are" if like else "use one of"
                return self.finding(path, f"there is no such field; {meant} {', '.join(known)}")
            case "value_error":
                said = str(error["ctx"]["error"])
                if inner := re.match(r"([a-z_][\w.]*): (.*)", said, re.DOTALL):
                    return self.finding([*path, *inner[1].split(".")], inner[2])
                return self.finding(path, said)
            case "string_pattern_mismatch":
                return self.finding(
                    path,
                    f"{error['input']!r} is no name: use lower-case letters, digits and _, a letter first",
                )
        said = error["msg"].replace("Input should", "it should")
        return self.finding(path, f"{said[0].lower()}{said[1:]}; it is {_short(error['input'])}")

    def _parse(self) -> ValueAndSourcePositionTree:
        def refused(line: int, message: str) -> DeclarationError:
            return DeclarationError([Finding(self.path, line, "", message)])

        try:
            text = self.path.read_text(encoding="utf-8")
            documents = parse_yamls_with_source_position(text, str(self.path))
            repeated = list(_repeated(yaml.compose(text, yaml.SafeLoader))) if len(documents) == 1 else []
        except OSError:
            raise refused(
                1,
                "the file is not there; write it, begin with `python -m vroom_assets new <name>`, "
                "or delete the folder",
            ) from None
        except UnicodeDecodeError as error:
            raise refused(1, f"it is not UTF-8: {error}; save it as UTF-8") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = ", ".join(filter(None, (error.context, error.problem)))
            raise refused(
                mark.line + 1 if mark else 1,
                f"it is no YAML: {said}; look at the indentation, and put texts with `: ` or ` #` into quotes",
            ) from None
        except yaml.YAMLError as error:
            raise refused(1, f"it is no YAML: {error}; remove what cannot be read") from None
        if len(documents) != 1 or not isinstance(documents[0].value, dict):
            raise refused(1, "it should hold one forecast, as the fields `type` and `attributes`")
        if repeated:
            raise DeclarationError(
                [
                    Finding(self.path, line, key, "it is there twice, and only one would count; remove one")
                    for key, line in repeated
                ]
            )
        return documents[0]


def _repeated(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping, which YAML readers pass over in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)


def _child_that_begins(message: str, tree: SourcePositionTree, value: Any) -> SourcePositionTree:
    """Of a list or mapping, the item that the message begins with: it stands on a line of its own."""
    first = re.match(r"'?(\w+)", message)
    if first is None:
        return tree
    if isinstance(value, list) and first[1] in value:
        return tree.children[value.index(first[1])]
    return tree.children.get(first[1], tree) if isinstance(value, dict) else tree


def _fields_at(path: Sequence[Key]) -> dict[str, Any]:
    """The fields that a declaration may have at a place, with their descriptions."""
    whole = DeclarationFile.model_json_schema()

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        node = next((one for one in node.get("anyOf", []) if one.get("type") != "null"), node)
        return whole["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    node = resolved(whole)
    for key in path:
        inner = node.get("properties", {}).get(key) or node.get("additionalProperties") or node.get("items")
        if not isinstance(inner, dict):
            return {}
        node = resolved(inner)
    return node.get("properties", {})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


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


def _with_statements(document: _Document, spec: ForecastSpec, folder: Path) -> ForecastSpec:
    needed = {"features": "inputs", "target": "target"} | {name: f"examples.{name}" for name in spec.examples}
    _refuse(
        document.finding(f"attributes.{field}", f"there is no {name}.sql; write it beside {FILE}")
        for name, field in needed.items()
        if not (folder / f"{name}.sql").is_file()
    )
    try:
        return with_statements(spec, folder)
    except UnicodeDecodeError as error:
        raise DeclarationError(
            [Finding(folder, 1, "", f"a .sql file is not UTF-8: {error}; save it as UTF-8")]
        ) from None


def _wrong_statements(document: _Document, spec: ForecastSpec, folder: Path) -> Iterator[Finding]:
    """What is wrong with the features, with who uses them, and with what DuckDB says of every statement."""
    try:
        features = parse(spec.features_sql, spec.input_columns)
    except FeatureError as error:
        features = []
        yield Finding(folder / "features.sql", error.line or 1, "", error.message)
    if features:
        names = [feature.name for feature in features]
        for name, candidate in spec.candidates.items():
            for field, message in _candidate(candidate, names, spec.candidates):
                yield document.finding(f"attributes.candidates.{name}.{field}", message)
        if said := _fallback(spec, features):
            yield document.finding("attributes.fallback.candidate", said)
    for fault in statements.faults(spec, features):
        yield Finding(folder / f"{fault.file}.sql", fault.line, "", fault.message)


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
