"""Fleet predictions: what the champion answered of every entity when they were last made."""

import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vroom_api.contract import forecast_folder
from vroom_api.contract.decoding import decode
from vroom_api.contract.fleet import FLEET, FleetReason, FleetRun, run_of
from vroom_api.contract.replaced import ReplacedFile

log = logging.getLogger(__name__)

MAX_IDS = 500  # of one statement


class FleetPrediction(msgspec.Struct, frozen=True):
    """The champion's answer to what is stored of an entity."""

    value: float
    low: float
    high: float
    reasons: (
        list[FleetReason] | None
    )  # the largest amount first; null where there are too many entities for them


class Fleet:
    """The fleet predictions of one forecast; follows the file when it is replaced. Safe in threads."""

    def __init__(self, forecast: str, root: Path | None = None) -> None:
        self._path = forecast_folder(forecast, root) / FLEET
        self._lock = threading.Lock()
        self._file = ReplacedFile(self._path)
        self._run: FleetRun | None = None

    def run(self) -> FleetRun | None:
        """What the answers come from; None before they are first made, and where the file is damaged."""
        with self._lock:
            try:
                return self._run if self._file.current(self._read_run) is not None else None
            except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
                self._give_up(error)
                return None

    def find(self, ids: Sequence[str], *, with_reasons: bool = True) -> dict[str, FleetPrediction]:
        """The answers of some entities, by their ids; without those that have none."""
        reasons_too = "reasons" if with_reasons else "null"
        found: dict[str, FleetPrediction] = {}
        with self._lock:
            try:
                connection = self._file.current(self._read_run)
                for start in range(0, len(ids) if connection else 0, MAX_IDS):
                    part = ids[start : start + MAX_IDS]
                    rows = connection.execute(  # type: ignore[union-attr]
                        f"select id, value, low, high, {reasons_too} from answer where value is not null and id in "
                        f"({', '.join('?' * len(part))})",
                        part,
                    )
                    for identifier, value, low, high, reasons in rows:
                        decoded = None if reasons is None else decode(reasons, list[FleetReason])
                        found[identifier] = FleetPrediction(value, low, high, decoded)
            except (sqlite3.Error, msgspec.MsgspecError, OSError) as error:
                self._give_up(error)
                return {}
        return found

    def close(self) -> None:
        """Close what was opened; whoever asks afterwards opens it again."""
        with self._lock:
            self._file.close()

    def _give_up(self, error: Exception) -> None:
        """What is damaged is as what is not there: it is made anew with the next champion or the next features."""
        log.warning("%s cannot be read: %s", self._path, error)
        self._file.close()

    def _read_run(self, connection: sqlite3.Connection) -> None:
        self._run = run_of(connection)
