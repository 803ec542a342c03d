"""The file of fleet predictions: what the champion answers of every entity, by what is stored of it.

``<home>/<forecast>/fleet.db`` is a SQLite file of two tables: ``answer`` (id, value, low, high, reasons as JSON) and
``about`` of one row, a `FleetRun` as JSON. Training writes it beside and renames it whenever the champion or the stored
inputs change, so a reader sees the answers of one version, all of them.
"""

import msgspec

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
