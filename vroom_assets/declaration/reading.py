"""A declaration as files: read whole, or refused with file, line, field and remedy of what is wrong.

A declaration is checked in three rounds, each on what passed the one before: the text of
``defs.yaml`` and the types of its fields, how the fields fit together, and the statements beside it.
A round reports all that it finds.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vroom_api.contract import durable
from vroom_assets.declaration import dry_run
from vroom_assets.declaration.document import FILE, FROM_FILES, DeclarationFile, _Document
from vroom_assets.declaration.findings import Finding, _refuse
from vroom_assets.declaration.rules import _by_order, _candidate, _fallback, contradictions, demands
from vroom_assets.features.expressions import Feature, FeatureError
from vroom_assets.settings import defs_folder
from vroom_assets.spec import ForecastSpec

SCHEMA = Path(__file__).parents[2] / "docs" / "forecast.schema.json"


def folders() -> list[Path]:
    """The folder of each forecast, in order of their names."""
    found = defs_folder()
    if not found.is_dir():
        return []
    return sorted(path for path in found.iterdir() if path.is_dir() and path.name[0] not in "._")


def read(folder: Path) -> ForecastSpec:
    """The forecast that a folder declares, with its statements, as an instance of the class that `type` names.

    Raises:
        DeclarationError: it cannot be used.
    """
    document = _Document(folder / FILE)
    spec = document.spec()
    _refuse(
        document.finding(f"attributes.{field}", message)
        for field, message in contradictions(spec, folder.name)
    )
    spec = _with_statements(document, spec, folder)
    _refuse(_wrong_statements(document, spec, folder))
    return spec


def check_parameters(folder: Path, spec: ForecastSpec) -> None:
    """Make every estimator, without fitting it: what its library says of the declared parameters.

    This imports the libraries, so `read` does not do it.

    Raises:
        DeclarationError: one does not take its parameters.
    """
    from vroom_assets.training import families, models

    refused = {}
    for name, candidate in spec.candidates.items():
        try:
            families.check_parameters(name, candidate)
        except models.CandidateError as error:
            refused[name] = str(error)
    if refused:
        document = _Document(folder / FILE)
        _refuse(
            document.finding(f"attributes.candidates.{name}.parameters", message)
            for name, message in refused.items()
        )


def schema() -> dict[str, Any]:
    """The JSON schema of defs.yaml, in which what is filled in need not stand."""
    made = DeclarationFile.model_json_schema()
    forecast, column = made["$defs"]["ForecastSpec"], made["$defs"]["Column"]
    for name in FROM_FILES:
        del forecast["properties"][name]
    forecast["required"].remove("inputs")
    column["anyOf"] = [{"required": column.pop("required")}, {"required": ["like"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made


def _with_statements(document: _Document, spec: ForecastSpec, folder: Path) -> ForecastSpec:
    """The declaration together with the SQL that stands beside it."""
    needed = {"features": "inputs", "target": "target"} | {name: f"examples.{name}" for name in spec.examples}
    texts: dict[str, str] = {}
    findings: list[Finding] = []
    for name, field in needed.items():
        path = folder / f"{name}.sql"
        try:
            texts[name] = durable.read(path).decode()
        except FileNotFoundError:
            findings.append(
                document.finding(f"attributes.{field}", f"there is no {name}.sql; write it beside {FILE}")
            )
        except OSError as error:
            findings.append(
                Finding(path, 1, "", f"it cannot be read: {error.strerror}; write a file instead")
            )
        except UnicodeDecodeError as error:
            findings.append(Finding(path, 1, "", f"it is not UTF-8: {error}; save it as UTF-8"))
    _refuse(iter(findings))
    return spec.model_copy(
        update={
            "features_sql": texts["features"],
            "target_sql": texts["target"],
            "examples_sql": {name: texts[name] for name in spec.examples},
        }
    )


def _wrong_statements(document: _Document, spec: ForecastSpec, folder: Path) -> Iterator[Finding]:
    """What is wrong with the features, with what uses them, and what DuckDB reports for every statement."""
    features: Sequence[Feature] = ()
    try:
        features = spec.features
    except FeatureError as error:
        yield Finding(folder / "features.sql", error.line or 1, "", error.message)
    if features:
        names = [feature.name for feature in features]
        optional = spec.optional_of(features)
        for name, candidate in spec.candidates.items():
            for field, message in _candidate(candidate, names, spec.candidates):
                yield document.finding(f"attributes.candidates.{name}.{field}", message)
            for field, message in _by_order(candidate, spec):
                yield document.finding(f"attributes.candidates.{name}.{field}", message)
            if candidate.trend in optional:
                message = f"{candidate.trend} may be missing, and time never is; make it of a time that is not nullable"
                yield document.finding(f"attributes.candidates.{name}.trend", message)
        if text := _fallback(spec, features):
            yield document.finding("attributes.fallback.candidate", text)
    faults = list(dry_run.faults(spec, features))
    for fault in faults:
        yield Finding(folder / f"{fault.file}.sql", fault.line, "", fault.message)
    if not faults:
        for field, message in demands(spec):
            yield document.finding(f"attributes.{field}", message)
