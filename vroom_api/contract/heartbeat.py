"""Heartbeats: when a forecast's sensor last checked the sources, and when commands were last consumed.

``<home>/<forecast>/automation.json`` is written at every tick. The service tells by it that nothing looks after a
champion any more: Dagster's daemon or code server stands still, or the declaration was taken away. By
``<home>/commands.json`` it tells that nobody would take a command.
"""

import contextlib
from pathlib import Path

import msgspec

from vroom_api.contract import durable
from vroom_api.contract.bundle import forecast_folder
from vroom_api.contract.decoding import decode
from vroom_api.contract.environment import home
from vroom_api.contract.struct import ContractStruct

HEARTBEAT = "automation.json"
CONSUMER = "commands.json"


class Heartbeat(ContractStruct, frozen=True):
    """The latest check of the sources, in seconds since the epoch, and the seconds until the next one."""

    checked_at: float
    every_s: float
    trouble: str = ""  # why what is newest is not trained; "" where it is, or may still be


def beat(forecast: str, heartbeat: Heartbeat, root: Path | None = None) -> None:
    """Write a heartbeat. One that cannot be written is one that did not come; it stops no tick."""
    _write(forecast_folder(forecast, root) / HEARTBEAT, heartbeat)


def latest_beat(forecast: str, root: Path | None = None) -> Heartbeat | None:
    """The latest heartbeat; None where there never was one, or none that can be read."""
    return _read(forecast_folder(forecast, root) / HEARTBEAT)


def beat_of_consumer(heartbeat: Heartbeat, root: Path | None = None) -> None:
    """Write that commands were consumed."""
    _write((root or home()) / CONSUMER, heartbeat)


def latest_beat_of_consumer(root: Path | None = None) -> Heartbeat | None:
    """When commands were last consumed; None where they never were."""
    return _read((root or home()) / CONSUMER)


def _write(path: Path, heartbeat: Heartbeat) -> None:
    with contextlib.suppress(OSError), durable.replaced(path, flush=False) as beside:
        beside.write_bytes(msgspec.json.encode(heartbeat))


def _read(path: Path) -> Heartbeat | None:
    try:
        return decode(durable.read(path), Heartbeat)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
