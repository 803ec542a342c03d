"""Bulk scoring from end to end: a champion answers all rows of a source, and the answers become one Parquet file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vroom_api.champion.freshness import Expired, admit
from vroom_api.champion.loading import Champion, Retired, load, prepare
from vroom_api.contract import durable
from vroom_api.contract.bundle import Bundle, BundleError
from vroom_api.contract.intervals import DEFAULT_LEVEL
from vroom_api.contract.model import open_model
from vroom_api.contract.model import score as model_score
from vroom_api.contract.store import LocalStore
from vroom_api.predictions import bulk
from vroom_assets.scoring.reading import CannotRead, Piece, Source

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 65_536  # in memory at once, and of a row group
QUIET = 1.0  # seconds that pass without a line of progress
Tell = Callable[[str], None]


class CannotScore(Exception):
    """Nothing was written; the message says why."""


class Done(NamedTuple):
    """What was written. refused: rows without an answer; example: why the first of them has none."""

    rows: int
    refused: int
    example: str
    seconds: float


def champion_of(name: str, version: int | None) -> Champion:
    """The champion of a forecast, or an earlier one of its.

    Raises:
        CannotScore: there is none, it must not be served, or its answers have expired.
    """
    try:
        champion = load(name) if version is None else _served(name, version)
        if champion is None:
            train = f"VROOM_FORECAST={name} python -m vroom_assets materialize"
            raise CannotScore(f"{name} has no champion yet; {train}")
        admit(champion.manifest, datetime.now(UTC))
    except (BundleError, Retired, Expired) as error:
        raise CannotScore(str(error)) from error
    return champion


def _served(name: str, version: int) -> Champion:
    store = LocalStore()
    served = {one.version: one for one in store.history(name)}
    if version not in served:
        known = ", ".join(map(str, sorted(served))) or "none"
        raise CannotScore(f"{name}: version {version} never served; those that did: {known}")
    pointer = served[version]
    return prepare(store.read(name, version, pointer.manifest_sha256), pointer)


def score(champion: Champion, source: Source, output: Path, tell: Tell) -> Done:
    """Answer all rows into a Parquet file, which is whole or as it was.

    Args:
        tell: is given a line of progress, where it takes long.

    Raises:
        CannotScore: a row of a strict source cannot be answered, or a file cannot be read or written.
    """
    progress = _Progress(tell, source)
    refused, example = 0, ""
    try:
        with durable.replaced(output) as beside, ExitStack() as open_files:
            write: Callable[[pa.Table], None] | None = None
            for piece, answers in answered(champion, source, progress.at):
                if answers.refused:
                    example = example or next(iter(answers.refused.values()))
                    refused += len(answers.refused)
                table = table_of(champion, piece, answers, with_refusals=not source.strict)
                write = write or writer(beside, table.schema, open_files)
                write(table)
            if write is None:
                raise CannotScore(f"{source.name}: there are no rows")
            open_files.close()
    except OSError as error:
        raise CannotScore(f"{output} cannot be written: {error.strerror or error}") from error
    return Done(progress.done, refused, example, progress.seconds)


def answered(
    champion: Champion, source: Source, at: Callable[[int], None]
) -> Iterator[tuple[Piece, bulk.Answers]]:
    """The rows of a source with their answers, some at a time.

    Args:
        at: is given the number of rows that are done.

    Raises:
        CannotScore: a row of a strict source cannot be answered, or a file cannot be read.
    """
    quicker, done = _Quicker(), 0
    try:
        for piece in source.pieces(ROWS):
            champion = quicker.after(champion, done)
            answers = bulk.answer(champion, piece.values, piece.count, DEFAULT_LEVEL, done + 1)
            if answers.refused and source.strict:
                raise CannotScore(f"{source.name}: {next(iter(answers.refused.values()))}")
            yield piece, answers
            done += piece.count
            at(done)
    except CannotRead as error:
        raise CannotScore(str(error)) from error


def writer(path: Path, schema: pa.Schema, open_files: ExitStack) -> Callable[[pa.Table], None]:
    """What writes tables of a schema into a Parquet file, which is complete when `open_files` are closed."""
    import pyarrow.parquet as pq

    written = open_files.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
    return lambda table: written.write_table(table)


def table_of(champion: Champion, piece: Piece, answers: bulk.Answers, *, with_refusals: bool) -> pa.Table:
    """Keys, prediction and bounds of some rows; the version that answered and its data are in the metadata of the schema."""
    import pyarrow as pa

    manifest = champion.manifest
    columns = dict(piece.keys)
    numbers = {f"predicted_{manifest.target}": answers.predictions, "low": answers.low, "high": answers.high}
    # A row that has an answer has three finite numbers, so NaN says that there is none.
    columns |= {name: pa.array(column, from_pandas=True) for name, column in numbers.items()}
    if with_refusals:
        columns["refused"] = pa.array([answers.refused.get(at) for at in range(piece.count)], pa.string())
    metadata = {
        "vroom.forecast": manifest.forecast,
        "vroom.model_version": str(manifest.version),
        "vroom.manifest_sha256": champion.manifest_sha256,
        "vroom.data_version": manifest.data_version,
        "vroom.data_as_of": manifest.data_as_of,
        "vroom.level": str(DEFAULT_LEVEL),
        "vroom.calibration": str(champion.origin.calibration or ""),
    }
    return pa.table(columns, metadata=metadata)


class _Quicker:
    """Tables instead of ensembles, made once as many rows have come as the tables have cells: before, they cost more
    than they save."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self._rows = 0  # from which on tables are worth it, 0 where none is to be made

    def after(self, champion: Champion, done: int) -> Champion:
        """The champion that is quickest after so many rows; it gives the same numbers, bit by bit."""
        if not done:
            return champion
        from vroom_assets.scoring import ensembles

        if self._bundle is None:
            self._bundle = _bundle_of(champion)
            self._rows = ensembles.cells_of(self._bundle.model)
        if not 0 < self._rows <= done:
            return champion
        self._rows = 0
        session = open_model(ensembles.tabulated(self._bundle.model))
        golden = np.asarray(self._bundle.golden.inputs, dtype=np.float64)
        pairs = zip(model_score(champion.session, golden), model_score(session, golden), strict=True)
        if any(one.tobytes() != other.tobytes() for one, other in pairs):
            return champion
        return replace(champion, session=session)


def _bundle_of(champion: Champion) -> Bundle:
    manifest = champion.manifest
    return LocalStore().read(manifest.forecast, manifest.version, champion.manifest_sha256)


class _Progress:
    """Lines about what is done and left, at most one a second and none in the first."""

    def __init__(self, tell: Tell, source: Source) -> None:
        self._tell = tell
        self._source = source
        self._began = self._latest = time.monotonic()
        self._rows: int | None = None
        self.done = 0

    @property
    def seconds(self) -> float:
        """Since the begin."""
        return time.monotonic() - self._began

    def at(self, done: int) -> None:
        self.done = done
        now = time.monotonic()
        if now - self._latest < QUIET:
            return
        self._latest = now
        if self._rows is None:
            self._rows = self._source.rows()
        whole = max(self._rows, done)
        left = (now - self._began) / done * (whole - done)
        self._tell(f"{done:,} of about {whole:,} rows, {left:.0f} s left")
