"""What the home holds of a forecast, and what of it cannot be read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from vroom_api.contract import (
    Bundle,
    BundleError,
    Manifest,
    Pointer,
    manifest_of,
)
from vroom_api.contract.environment import home, sqlite_url
from vroom_api.contract.events import ContestResult
from vroom_api.contract.store import LocalStore
from vroom_assets import declaration, settings
from vroom_assets.champion import contest
from vroom_assets.features.table import parquet_path
from vroom_assets.spec import ForecastSpec

FOLDS, ERRORS_BY = "fold_metrics.csv", "error_by_"


class UnknownForecast(Exception):
    """Neither declared nor ever published; the message names those that there are."""


@dataclass
class Facts:
    """What is known of a forecast.

    spec: as it is declared now. pointer, bundle: of what serves, or served last. contest: the latest. target: of the
    training rows. folds: of the search, columns candidate, repeat, fold and the metrics. errors_by: by tag, columns
    value, rows and the error. former: manifests of earlier trainings that served, oldest first. unread: what could not be read, and why.
    """

    name: str
    spec: ForecastSpec | None = None
    pointer: Pointer | None = None
    served_since: str = ""
    bundle: Bundle | None = None
    contest: ContestResult | None = None
    target: np.ndarray | None = None
    folds: pd.DataFrame | None = None
    errors_by: dict[str, pd.DataFrame] = field(default_factory=dict)
    former: list[Manifest] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def facts_of(name: str) -> Facts:
    """Everything that is stored about a forecast.

    Raises:
        UnknownForecast: nothing is.
    """
    found = Facts(name)
    store = LocalStore()
    declared = {folder.name: folder for folder in declaration.folders()}
    published = {path.parent.name for path in home().glob("*/champion.json")}
    if name not in declared and name not in published:
        names = ", ".join(sorted(declared.keys() | published)) or "none"
        raise UnknownForecast(f"there is no forecast {name!r}; those declared or published are: {names}")
    if name in declared:
        _read(found, "the declaration", lambda: setattr(found, "spec", declaration.read(declared[name])))
    _read(found, "the latest contest", lambda: setattr(found, "contest", contest.read_result(name)))
    _read(found, "the pointer", lambda: setattr(found, "pointer", store.pointer(name)))
    pointer = found.pointer
    if pointer is None:
        return found
    _read(
        found,
        "the champion",
        lambda: setattr(found, "bundle", store.read(name, pointer.version, pointer.manifest_sha256)),
    )
    if found.bundle is not None:
        manifest = found.bundle.manifest
        _read(found, "what served before", lambda: _read_history(found, store, manifest))
        _read(found, "the training rows", lambda: _read_target(found, manifest))
        _read(found, "the search in MLflow", lambda: _read_search(found, manifest))
    return found


def _read(found: Facts, what: str, read: Callable[[], None]) -> None:
    """Take up a part, or note why it cannot be read."""
    from mlflow.exceptions import MlflowException

    expected = (declaration.DeclarationError, BundleError, MlflowException, OSError, ValueError)
    try:
        read()
    except contest.NoContest:
        return
    except expected as error:
        found.unread.append(f"{what}: {error}")


def _read_history(found: Facts, store: LocalStore, champion: Manifest) -> None:
    """Since when what serves does, and what was trained and served before; versions of one training count once."""
    manifests: dict[int, Manifest] = {}
    found.served_since = found.pointer.published_at if found.pointer else ""
    for pointer in reversed(store.history(found.name)):
        if pointer.version not in manifests:
            manifests[pointer.version] = manifest_of(found.name, pointer.version)
        one = manifests[pointer.version]
        if one.mlflow_run_id == champion.mlflow_run_id:
            if not found.former:
                found.served_since = pointer.published_at
        elif all(one.mlflow_run_id != other.mlflow_run_id for other in found.former):
            found.former.insert(0, one)


def _read_target(found: Facts, champion: Manifest) -> None:
    path = parquet_path(found.name, champion.data_version)
    found.target = pd.read_parquet(path, columns=["target"])["target"].to_numpy(dtype=float)


def _read_search(found: Facts, champion: Manifest) -> None:
    """The tables that the registration logged with the run."""
    from vroom_assets import tracking

    database = home() / "mlflow" / "mlflow.db"
    if settings.tracking_uri() == sqlite_url(database) and not database.is_file():
        raise FileNotFoundError(f"there is no {database}")
    client = tracking.connect()
    run = champion.mlflow_run_id
    files = client.list_artifacts(run)
    if FOLDS not in {file.path for file in files}:
        raise FileNotFoundError(f"run {run} has no {FOLDS}")
    for file in files:
        if file.path != FOLDS and not (file.path.startswith(ERRORS_BY) and file.path.endswith(".csv")):
            continue
        with tempfile.TemporaryDirectory() as folder:
            table = pd.read_csv(
                client.download_artifacts(run, file.path, folder),
                dtype={"candidate": str, "value": str},  # a level `NA` or `007` is a text
                keep_default_na=False,
            )
        if file.path == FOLDS:
            found.folds = table
        else:
            found.errors_by[file.path.removeprefix(ERRORS_BY).removesuffix(".csv")] = table
