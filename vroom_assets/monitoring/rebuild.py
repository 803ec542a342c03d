"""Rebuild: a version once more from the snapshots of its CSVs, and whether it is the one that was published.

The sources are checked, the features computed and the recipe fitted as its training did it, in a folder that nothing else
is in. What the search chose is known from the manifest, so that nothing is searched for again.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from pydantic import ValidationError

from vroom_api.contract import MODEL, Bundle, Manifest, durable, forecast_folder, sha256_of
from vroom_api.contract.model import open_model, score
from vroom_assets import sources
from vroom_assets.declaration import DeclarationError, folders, read
from vroom_assets.features import table
from vroom_assets.sources import NamedFile
from vroom_assets.spec import ForecastSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from vroom_assets.features.table import Dataset

LARGEST_DIFFERENCE = 1e-9  # of a prediction, up to which two models are one
ROWS_AT_ONCE = 4_096  # scored


class CannotRebuild(Exception):
    """What a rebuild needs is not there any more; the message says what, and what helps."""


class Library(msgspec.Struct, frozen=True):
    """A library whose version is not the one of the training; None where it is not installed."""

    name: str
    then: str
    now: str | None


class Rebuilt(msgspec.Struct, frozen=True):
    """A version beside what its snapshots give now. Differences are the largest of predictions, absolute."""

    forecast: str
    version: int
    same_bytes: bool
    golden_difference: float
    training_difference: float  # over all training rows
    rows: int
    libraries: list[Library]

    @property
    def agrees(self) -> bool:
        """Whether it is the same model."""
        largest = max(self.golden_difference, self.training_difference)
        return self.same_bytes or largest <= LARGEST_DIFFERENCE


def rebuild(forecast: str, bundle: Bundle, folder: Path) -> Rebuilt:
    """Train a version again from its snapshots.

    Args:
        folder: an empty one, for the warehouse and the model.

    Raises:
        CannotRebuild: a snapshot or the declaration of its training is gone, or they make other data than it was trained on.
    """
    import duckdb

    manifest = bundle.manifest
    spec = declaration_of(forecast, bundle)
    files = snapshots_of(forecast, manifest)
    with closing(duckdb.connect(folder / "warehouse.duckdb")) as connection:
        data = _dataset(connection, spec, manifest, files)
        model = _fitted(spec, bundle, data)
    durable.replace(folder / MODEL, model)
    golden = np.asarray(bundle.golden.inputs, dtype=np.float64)
    return Rebuilt(
        forecast=forecast,
        version=manifest.version,
        same_bytes=model == bundle.model,
        golden_difference=largest_difference(bundle.model, model, golden),
        training_difference=largest_difference(bundle.model, model, data.inputs.to_numpy(np.float64)),
        rows=len(data.target),
        libraries=list(other_libraries(manifest.libraries)),
    )


def declaration_of(forecast: str, bundle: Bundle) -> ForecastSpec:
    """The declaration that a version was trained by: the one kept with it, or today's where it trains the same.

    Raises:
        CannotRebuild: neither is to be had.
    """
    manifest = bundle.manifest
    if bundle.training is not None:
        try:
            return ForecastSpec.model_validate(bundle.training.declaration)
        except ValidationError as error:
            raise CannotRebuild(
                f"{forecast} version {manifest.version}: this Vroom cannot read the declaration of its training; use the "
                f"Vroom that trained it, {manifest.trained_at[:10]}: {error.errors()[0]['msg']}"
            ) from error
    whose = f"{forecast} version {manifest.version}: its bundle is older than declarations are kept in them"
    folder = next((one for one in folders() if one.name == forecast), None)
    if folder is None:
        raise CannotRebuild(f"{whose}, and {forecast} is not declared now; declare it as it was (VROOM_DEFS)")
    try:
        spec = read(folder)
    except DeclarationError as error:
        raise CannotRebuild(f"{whose}, and the declaration in {folder} is broken: {error}") from error
    same = (spec.trained_version(manifest.snapshots), spec.former_trained_version(manifest.snapshots))
    if manifest.trained_version not in same and manifest.code_version != spec.whole_fingerprint():
        raise CannotRebuild(
            f"{whose}, and the declaration in {folder} changed since: sources, features, target, candidates or validation; "
            f"let VROOM_DEFS name a folder with the declaration of {manifest.trained_at[:10]}"
        )
    return spec


def snapshots_of(forecast: str, manifest: Manifest) -> dict[str, list[NamedFile]]:
    """The copies of the CSVs that a version was trained on, by source, each byte of them checked.

    Raises:
        CannotRebuild: one is gone or damaged.
    """
    folder = forecast_folder(forecast) / "snapshots"
    return {
        source: [NamedFile(path, f"the snapshot {path.name} of {source}") for path in _copies(folder, digest)]
        for source, digest in manifest.snapshots.items()
    }


def _copies(folder: Path, digest: str) -> list[Path]:
    """The copy of one file, or of those that a list names, in its order."""
    listed = folder / f"{digest}.sha256"
    if not listed.is_file():
        return [_whole(folder / f"{digest}.csv", digest)]
    names = durable.read(_whole(listed, digest)).decode().splitlines()
    return [_whole(folder / f"{one.split('  ')[0]}.csv", one.split("  ")[0]) for one in names]


def _whole(path: Path, digest: str) -> Path:
    try:
        content = durable.read(path)
    except OSError as error:
        raise CannotRebuild(
            f"the snapshot {path} cannot be read: {error.strerror}; put it back from a copy of the home"
        ) from error
    if sha256_of(content) != digest:
        raise CannotRebuild(
            f"the snapshot {path} is damaged: its SHA-256 is not its name; put it back from a copy of the home"
        )
    return path


def _dataset(
    connection: DuckDBPyConnection,
    spec: ForecastSpec,
    manifest: Manifest,
    files: Mapping[str, list[NamedFile]],
) -> Dataset:
    """The training rows, from the snapshots."""
    missing = [name for name in spec.sources if name not in files]
    if missing:
        raise CannotRebuild(
            f"version {manifest.version} was trained without the source {', '.join(missing)}, which its declaration names"
        )
    trained_at = datetime.fromisoformat(manifest.trained_at)
    try:
        for name in in_order(spec):
            past = spec.past_columns(name)
            sources.load(connection, name, spec.sources[name], files[name], past, now=trained_at)
            origin = {"snapshot": manifest.snapshots[name], "modified": manifest.data_as_of}
            table.note_origin(connection, name, origin)
        table.build(connection, spec)
    except (sources.SourceRefused, table.DatasetError) as error:
        raise CannotRebuild(
            f"version {manifest.version}: its snapshots are refused by this Vroom: {error}"
        ) from error
    data = table.read(connection, spec)
    if not table.is_declared(manifest.data_version, spec, manifest.snapshots):
        raise CannotRebuild(
            f"version {manifest.version} was trained on data version {manifest.data_version[:12]}, and its snapshots give "
            f"{data.data_version[:12]}: the declaration, or how Vroom reads one, is another"
        )
    if len(data.target) != manifest.rows:
        raise CannotRebuild(
            f"version {manifest.version} was trained on {manifest.rows:,} rows, and its snapshots give "
            f"{len(data.target):,}: this Vroom reads the sources otherwise"
        )
    return data


def in_order(spec: ForecastSpec) -> list[str]:
    """The sources, each after those that its columns refer to."""
    needed = {
        name: {
            table
            for column in source.columns.values()
            if column.references and (table := column.references.partition(".")[0]) != name
        }
        for name, source in spec.sources.items()
    }
    ordered: list[str] = []
    while left := [name for name in needed if name not in ordered]:
        ordered.append(next((name for name in left if needed[name] <= set(ordered)), left[0]))
    return ordered


def _fitted(declared: ForecastSpec, bundle: Bundle, data: Dataset) -> bytes:
    """The graph of the recipe, with the values that were chosen for it, fitted on the rows that it was fitted on."""
    from vroom_assets.challenger import parity
    from vroom_assets.champion.contest import candidates_of
    from vroom_assets.training.models import CandidateError
    from vroom_assets.training.sampling import sample

    manifest, fallback = bundle.manifest, bundle.manifest.fallback
    recipes = candidates_of(manifest.recipe) | (candidates_of(fallback.recipe) if fallback else {})
    spec = declared.with_values({**declared.candidates, **recipes}).with_levels(data.levels)
    size = bundle.training.fitted_rows if bundle.training is not None else None
    rows = None if size is None else sample(data.row_structure, size, spec.validation.seed)
    try:
        return parity.export(spec, data, manifest.recipe.name, rows).model
    except (parity.NotExportable, CandidateError) as error:
        raise CannotRebuild(
            f"version {manifest.version}: {manifest.recipe.name} cannot be fitted by this Vroom: {error}"
        ) from error


def largest_difference(one: bytes, other: bytes, inputs: np.ndarray) -> float:
    """The largest absolute difference of two models' predictions; infinite where only one of them has any.

    Args:
        inputs: float64, shape (rows, inputs).
    """
    sessions = open_model(one), open_model(other)
    worst = 0.0
    for start in range(0, len(inputs), ROWS_AT_ONCE):
        rows = np.ascontiguousarray(inputs[start : start + ROWS_AT_ONCE])
        first, second = (score(session, rows)[0] for session in sessions)
        both = np.isnan(first) & np.isnan(second)
        gaps = np.abs(np.where(both, 0.0, first - second))
        worst = max(worst, float(np.nan_to_num(gaps, nan=np.inf).max(initial=0.0)))
    return worst


def other_libraries(then: Mapping[str, str]) -> Iterator[Library]:
    """The libraries that are not those of a training."""
    for name, version in then.items():
        try:
            now = platform.python_version() if name == "python" else installed(name)
        except PackageNotFoundError:
            now = None
        if now != version:
            yield Library(name, version, now)


def described(found: Rebuilt) -> list[str]:
    """The result as lines for people."""
    if found.same_bytes:
        verdict = "the same bytes"
    elif found.agrees:
        verdict = f"the same predictions, within {LARGEST_DIFFERENCE:g}"
    else:
        verdict = "OTHER predictions"
    lines = [
        f"{found.forecast} version {found.version}, trained again from its snapshots: {verdict}",
        f"  largest difference  {found.golden_difference:.3g} on the golden rows, {found.training_difference:.3g} on all "
        f"{found.rows:,} training rows",
    ]
    lines += [
        f"  other library       {one.name} {one.now or 'is not installed'}, then {one.then}"
        for one in found.libraries
    ]
    return lines
