"""The heartbeat of a forecast's automation: when its sensor last checked the sources.

``<home>/<forecast>/automation.json`` is written at every tick. The service tells by it that nothing looks after a
champion any more: Dagster's daemon or code server stands still, or the declaration was taken away.
"""

import contextlib
from pathlib import Path

import msgspec

from vroom_api.contract import durable
from vroom_api.contract.bundle import forecast_folder
from vroom_api.contract.decoding import decode
from vroom_api.contract.struct import ContractStruct

HEARTBEAT = "automation.json"


class Heartbeat(ContractStruct, frozen=True):
    """The latest check of the sources, in seconds since the epoch, and the seconds until the next one."""

    checked_at: float
    every_s: float
    trouble: str = ""  # why what is newest is not trained; "" where it is, or may still be


def beat(forecast: str, heartbeat: Heartbeat, root: Path | None = None) -> None:
    """Write a heartbeat. One that cannot be written is one that did not come; it stops no tick."""
    with (
        contextlib.suppress(OSError),
        durable.replaced(forecast_folder(forecast, root) / HEARTBEAT, flush=False) as beside,
    ):
        beside.write_bytes(msgspec.json.encode(heartbeat))


def latest_beat(forecast: str, root: Path | None = None) -> Heartbeat | None:
    """The latest heartbeat; None where there never was one, or none that can be read."""
    try:
        return decode(durable.read(forecast_folder(forecast, root) / HEARTBEAT), Heartbeat)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
