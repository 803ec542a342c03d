"""The file of fleet predictions: what the champion answers of every entity, by what is stored of it.

``<home>/<forecast>/fleet.db`` is a SQLite file of two tables: ``answer`` (id, value, low, high, reasons as JSON) and
``about`` of one row, a `FleetRun` as JSON. Training writes it beside and renames it whenever the champion or the stored
inputs change, so a reader sees the answers of one version, all of them.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from vroom_api.contract.bundle import forecast_folder
from vroom_api.contract.decoding import decode
from vroom_api.contract.entities import ENTITIES
from vroom_api.contract.replaced import opened
from vroom_api.contract.struct import ContractStruct

FLEET = "fleet.db"

SCHEMA = """
create table about (run blob not null);
create table answer (id text primary key, value real, low real, high real, reasons blob) without rowid;
"""


class FleetRun(ContractStruct, frozen=True):
    """What the answers of a file come from."""

    version: int
    generation: int
    manifest_sha256: str
    calibration: int | None
    stored: str  # state of the stored inputs that were answered
    data_as_of: str
    level: float  # of the intervals
    predicted_at: str  # ISO 8601, UTC
    rows: int
    refused: int  # without an answer
    baseline: float | None  # of the reasons; null where there are none


class FleetReason(msgspec.Struct, frozen=True, array_like=True):
    """What an input adds to the prediction, in units of the target, beside the baseline."""

    input: str
    amount: float


class FleetError(Exception):
    """The file is there and damaged."""


def run_of(connection: sqlite3.Connection) -> FleetRun:
    """What the answers of a file come from.

    Raises:
        sqlite3.Error, msgspec.MsgspecError: it is damaged.
    """
    [(content,)] = connection.execute("select run from about").fetchall()
    return decode(content, FleetRun)


def read_run(forecast: str, root: Path | None = None) -> FleetRun | None:
    """What the fleet predictions of a forecast come from; None before they are first made.

    Raises:
        FleetError: they are damaged.
    """
    path = forecast_folder(forecast, root) / FLEET
    if not path.is_file():
        return None
    try:
        with closing(opened(path)) as connection:
            return run_of(connection)
    except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
        raise FleetError(f"{path} cannot be read: {error}") from error


def stored_state(forecast: str, root: Path | None = None) -> str:
    """The state of the file of stored inputs, another one after each change; "" where there is none."""
    try:
        state = (forecast_folder(forecast, root) / ENTITIES).stat()
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"
