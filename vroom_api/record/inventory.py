"""What a forecast keeps, and where: read anew at every call, and without anything that opens it.

Paths are relative to the home, and none is given of what lies elsewhere: addresses may hold users and passwords.
"""

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import sqlalchemy as sa

from vroom_api.champion.loading import Champion
from vroom_api.champion.stored_inputs import Entities, NotReadable
from vroom_api.contract import POINTER, FreshnessPolicy, Manifest, forecast_folder
from vroom_api.contract.entities import ENTITIES
from vroom_api.contract.ids import time_of
from vroom_api.contract.saved_entities import behind
from vroom_api.contract.store import LocalStore
from vroom_api.contract.tables import Database, UnusableDatabase, prediction_blocks, predictions


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """One of the stores of a forecast, as it is now; null is what is not known, or would take long to count."""

    name: Literal["offline", "warehouse", "online", "bundles", "record", "serving"]
    what: str  # that it holds
    kind: str  # e.g. parquet, duckdb, sqlite, postgresql
    available: bool
    path: str | None = None  # relative to the home; null where it lies elsewhere
    bytes: int | None = None
    rows: int | None = None  # rows, entities or versions
    last_modified: datetime | None = None
    pending: int | None = None  # what is not in it yet: saved entities, predictions that wait for the disk


class FeatureView(msgspec.Struct, frozen=True):
    """What the model of a forecast reads, and of what."""

    name: str
    entity: str
    key: str  # by which requests name an entity
    inputs: list[str]
    features: list[str]
    target: str
    unit: str
    horizon: str
    data_version: str
    data_as_of: str
    freshness: FreshnessPolicy  # how old model and data may be


class Stores(msgspec.Struct, frozen=True):
    """All stores of a forecast, and the features that are in them; these are null before a champion serves."""

    forecast: str
    stores: list[StoreState]
    feature_view: FeatureView | None


def inventory(
    forecast: str, champion: Champion | None, database: Database, home: Path, *, waiting: int | None
) -> Stores:
    """What is there now.

    Args:
        waiting: predictions that wait for the disk; None where none are recorded.
    """
    stores = [
        _offline(forecast, home),
        _file("warehouse", "checked sources and features", "duckdb", forecast_folder(forecast, home) / "warehouse.duckdb", home),
        _online(forecast, database, home),
        _bundles(forecast, home),
        _record(database, waiting),
        _serving(database, home),
    ]  # fmt: skip
    return Stores(forecast, stores, _view(champion.manifest) if champion else None)


def _view(manifest: Manifest) -> FeatureView:
    return FeatureView(
        name=f"{manifest.forecast}_features",
        entity=manifest.entity,
        key="entity_id",
        inputs=[field.name for field in manifest.inputs],
        features=[feature.name for feature in manifest.features],
        target=manifest.target,
        unit=manifest.unit,
        horizon=manifest.horizon,
        data_version=manifest.data_version,
        data_as_of=manifest.data_as_of,
        freshness=manifest.freshness,
    )


def _offline(forecast: str, home: Path) -> StoreState:
    """The newest table of features."""
    tables = (forecast_folder(forecast, home) / "features").glob("*.parquet")
    newest = max(tables, key=_modified, default=None)
    found = _file("offline", "features of all rows, for training", "parquet", newest, home)
    return msgspec.structs.replace(found, rows=None if newest is None else _rows_of(newest))


def _rows_of(parquet: Path) -> int | None:
    """By its footer; None where it cannot be read, or pyarrow is not installed beside the service."""
    try:
        import pyarrow.parquet as pq

        return int(pq.read_metadata(parquet).num_rows)
    except (ImportError, OSError, ValueError):  # what pyarrow raises is one of these
        return None


def _online(forecast: str, database: Database, home: Path) -> StoreState:
    path = forecast_folder(forecast, home) / ENTITIES
    found = _file("online", "latest inputs of every entity, for requests by id", "sqlite", path, home)
    try:
        with contextlib.closing(Entities(forecast, home)) as entities:
            rows = entities.count() if found.available else None
    except NotReadable:
        return msgspec.structs.replace(found, available=False)
    return msgspec.structs.replace(found, rows=rows, pending=_pending(forecast, database))


def _bundles(forecast: str, home: Path) -> StoreState:
    folder = forecast_folder(forecast, home) / "champions"
    pointer = forecast_folder(forecast, home) / POINTER
    versions = LocalStore(home).versions(forecast)
    return StoreState(
        name="bundles",
        what="versions that served, and the model that does",
        kind="onnx",
        available=pointer.is_file(),
        path=_relative(folder, home) if folder.is_dir() else None,
        bytes=_bytes(path for version in versions for path in (folder / str(version)).glob("*")),
        rows=len(versions),
        last_modified=_time(pointer),
    )


def _record(database: Database, waiting: int | None) -> StoreState:
    try:
        engine = database()
        with engine.connect() as connection:
            latest = sa.func.max(predictions.c.id), sa.func.max(prediction_blocks.c.last_id)
            newest = max(filter(None, (connection.scalar(sa.select(one)) for one in latest)), default=None)
    except (sa.exc.SQLAlchemyError, UnusableDatabase, OSError):
        newest, kind, available = None, "unknown", False
    else:
        kind, available = engine.dialect.name, True
    return StoreState(
        name="record",
        what="predictions of all forecasts, written before they are answered",
        kind=kind,
        available=available and waiting is not None,
        last_modified=time_of(newest) if newest else None,
        pending=waiting,
    )


def _serving(database: Database, home: Path) -> StoreState:
    """The database that the record, the ledger, keys and events are in."""
    what = "record, ledger, keys, commands and events of all forecasts"
    try:
        engine = database()
        with engine.connect() as connection:
            if engine.dialect.name != "sqlite":
                size = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
                return StoreState(
                    name="serving", what=what, kind=engine.dialect.name, available=True, bytes=size
                )
    except (sa.exc.SQLAlchemyError, UnusableDatabase, OSError):
        return StoreState(name="serving", what=what, kind="unknown", available=False)
    path = Path(engine.url.database or "").absolute()
    files = [path, Path(f"{path}-wal")]
    found = _file("serving", what, "sqlite", path, home)
    modified = max(filter(None, map(_time, files)), default=None)
    return msgspec.structs.replace(found, bytes=_bytes(files), last_modified=modified)


def _pending(forecast: str, database: Database) -> int | None:
    """Entities that were saved and are not materialized as they are now; None where the database does not answer."""
    try:
        with database().connect() as connection:
            return behind(connection, forecast).count
    except (sa.exc.SQLAlchemyError, UnusableDatabase, OSError):
        return None


def _file(
    name: Literal["offline", "warehouse", "online", "serving"],
    what: str,
    kind: str,
    path: Path | None,
    home: Path,
) -> StoreState:
    if path is None or not path.is_file():
        return StoreState(name=name, what=what, kind=kind, available=False)
    return StoreState(
        name=name,
        what=what,
        kind=kind,
        available=True,
        path=_relative(path, home),
        bytes=_bytes([path]),
        last_modified=_time(path),
    )


def _relative(path: Path, home: Path) -> str | None:
    home = home.absolute()
    return str(path.absolute().relative_to(home)) if path.absolute().is_relative_to(home) else None


def _bytes(files: Iterable[Path]) -> int:
    """Of those that are there; one that is removed meanwhile has none."""
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _time(path: Path) -> datetime | None:
    modified = _modified(path)
    return datetime.fromtimestamp(modified, UTC) if modified else None
