"""Fleet predictions: the champion answers what is stored of every entity, for whoever asks about all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from vroom_api.champion.loading import Champion
from vroom_api.contract import durable, forecast_folder
from vroom_api.contract.fleet import FLEET, SCHEMA, FleetReason, FleetRun, stored_state
from vroom_api.contract.intervals import DEFAULT_LEVEL
from vroom_api.predictions import bulk
from vroom_assets.scoring import writing
from vroom_assets.scoring.reading import ENTITY_ID, CannotRead, Piece, StoredRows

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = "fleet_predictions.parquet"


class Answered(NamedTuple):
    """What was made. example: why the first entity without an answer has none."""

    run: FleetRun
    parquet: Path
    explained: bool
    example: str


def predict_fleet(forecast: str, at: Callable[[int], None]) -> Answered:
    """Answer all entities into a Parquet file and into the file that the service reads; both are whole or as they were.

    Args:
        at: is given the number of entities that are done.

    Raises:
        CannotScore: no version serves, or a file cannot be read or written.
    """
    champion = writing.champion_of(forecast, None)
    stored = stored_state(forecast)  # before it is read: what changes meanwhile is answered again
    source = StoredRows(champion.entities, forecast)
    folder = forecast_folder(forecast)
    try:
        explained = bulk.are_explained(champion, source.rows())
        with (
            durable.replaced(folder / PARQUET) as parquet,
            durable.replaced(folder / FLEET) as beside,
            closing(sqlite3.connect(beside)) as file,
        ):
            # Nobody sees the file before it is complete, so nothing has to be undone.
            file.executescript(f"pragma journal_mode = off; pragma synchronous = off; {SCHEMA}")
            sink = _Sink(champion, stored, parquet, file, explained)
            with ExitStack() as open_files:
                for piece, answers in writing.answered(champion, source, at):
                    sink.write(piece, answers, open_files)
                if not sink.rows:
                    sink.write(Piece(0, {ENTITY_ID: [], "as_of": []}, {}), _nothing(), open_files)
            run = sink.finish()
    except CannotRead as error:
        raise writing.CannotScore(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise writing.CannotScore(
            f"the predictions of {forecast} cannot be written below {folder}: {error}"
        ) from error
    return Answered(run, folder / PARQUET, explained, sink.example)


class _Sink:
    """Both files, as they are written."""

    def __init__(
        self, champion: Champion, stored: str, parquet: Path, file: sqlite3.Connection, explained: bool
    ) -> None:
        self.rows = self.refused = 0
        self.example = ""
        self._champion = champion
        self._stored = stored
        self._parquet = parquet
        self._file = file
        self._explained = explained
        self._baseline: float | None = None
        self._write: Callable[[pa.Table], None] | None = None

    def write(self, piece: Piece, answers: bulk.Answers, open_files: ExitStack) -> None:
        """Write some entities with their answers."""
        import pyarrow as pa

        table = writing.table_of(self._champion, piece, answers, with_refusals=True)
        reasons: list[list[FleetReason] | None] = [None] * piece.count
        if self._explained:
            found = bulk.amounts(self._champion, piece.values, piece.count)
            reasons = [
                None if part is None else [FleetReason(*one) for one in part] for part in found.amounts
            ]
            self._baseline = found.baseline if found.baseline is not None else self._baseline
        listed = [None if part is None else msgspec.to_builtins(_named(part)) for part in reasons]
        kind = pa.list_(pa.struct([("input", pa.string()), ("amount", pa.float64())]))
        table = table.append_column("reasons", pa.array(listed, kind))
        self._write = self._write or writing.writer(self._parquet, table.schema, open_files)
        self._write(table)
        self._file.executemany("insert into answer values (?, ?, ?, ?, ?)", _cells(piece, answers, reasons))
        if answers.refused:
            self.example = self.example or next(iter(answers.refused.values()))
        self.rows += piece.count
        self.refused += len(answers.refused)

    def finish(self) -> FleetRun:
        """Write what all of it comes from."""
        champion = self._champion
        run = FleetRun(
            version=champion.version,
            generation=champion.generation,
            manifest_sha256=champion.manifest_sha256,
            calibration=champion.origin.calibration,
            stored=self._stored,
            data_as_of=champion.manifest.data_as_of,
            level=DEFAULT_LEVEL,
            predicted_at=datetime.now(UTC).isoformat(timespec="seconds"),
            rows=self.rows,
            refused=self.refused,
            baseline=self._baseline,
        )
        self._file.execute("insert into about values (?)", [msgspec.json.encode(run)])
        self._file.commit()
        return run


def _named(reasons: list[FleetReason]) -> list[dict[str, str | float]]:
    return [{"input": one.input, "amount": one.amount} for one in reasons]


def _cells(
    piece: Piece, answers: bulk.Answers, reasons: list[list[FleetReason] | None]
) -> Iterator[tuple[object, ...]]:
    """The rows of the table `answer`; one that is refused has no numbers."""
    numbers = (column.tolist() for column in (answers.predictions, answers.low, answers.high))
    for identifier, *three, why in zip(piece.keys[ENTITY_ID], *numbers, reasons, strict=True):
        known = [None if number != number else number for number in three]
        yield identifier, *known, None if why is None else msgspec.json.encode(why)


def _nothing() -> bulk.Answers:
    import numpy as np

    return bulk.Answers(np.empty(0), np.empty(0), np.empty(0), {})
