"""How far the monitoring of a forecast has come, for its sensor, which opens no warehouse.

``<home>/<forecast>/monitoring.json`` is written at the end of each run.
"""

from __future__ import annotations

import msgspec

from vroom_api.contract import durable, forecast_folder
from vroom_api.contract.decoding import decode
from vroom_api.contract.struct import ContractStruct

FILE = "monitoring.json"


class Progress(ContractStruct, frozen=True):
    """closed_until: the end of the last window that was summarized, in seconds since 1970. finished_at: of the run."""

    closed_until: float = 0.0
    finished_at: float = 0.0


def write(forecast: str, progress: Progress) -> None:
    """Replace what was written before."""
    path = forecast_folder(forecast) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.replaced(path, flush=False) as beside:
        beside.write_bytes(msgspec.json.encode(progress))


def read(forecast: str) -> Progress:
    """What the latest run has written; nothing done where there was none, or its file cannot be read."""
    try:
        return decode(durable.read(forecast_folder(forecast) / FILE), Progress)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Progress()
