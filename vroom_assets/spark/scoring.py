"""Bulk scoring on Spark: each worker opens the bundle once, and answers batches of rows as one machine does."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vroom_api.champion.loading import Champion, prepare
from vroom_api.contract import Bundle, Pointer
from vroom_api.contract.calibrations import CalibrationRevision
from vroom_api.contract.intervals import DEFAULT_LEVEL
from vroom_api.predictions import bulk
from vroom_assets.scoring.reading import ENTITY_ID

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

# Of a worker's process, by the digest of the manifest and the number of the calibration revision.
_champions: dict[tuple[str, int | None], Champion] = {}


@dataclass(frozen=True)
class Scorer:
    """What Spark hands to its workers: a bundle, what corrects it, and what to do with batches of rows."""

    bundle: Bundle
    pointer: Pointer
    revision: CalibrationRevision | None = None  # as `contract.calibrations.revision_of` finds it

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        champion = _opened(self.bundle, self.pointer, self.revision)
        for batch in batches:
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            values = {field.name: _values(columns[field.name]) for field in self.bundle.manifest.inputs}
            found = bulk.answer(champion, values, batch.num_rows, DEFAULT_LEVEL)
            numbers = (pa.array(one, from_pandas=True) for one in (found.predictions, found.low, found.high))
            refused = pa.array([found.refused.get(at) for at in range(batch.num_rows)], pa.string())
            keys = columns[ENTITY_ID]
            names = [ENTITY_ID, f"predicted_{self.bundle.manifest.target}", "low", "high", "refused"]
            yield pa.RecordBatch.from_arrays([keys, *numbers, refused], names)


def score(scorer: Scorer, rows: DataFrame, folder: Path) -> None:
    """Answer all rows into a folder of Parquet files, which is whole or as it was.

    Args:
        rows: `entity_id` as text, and the inputs by their names: numbers as double, texts and times as text. One that has no
            answer is written with the reason in `refused`.
        folder: under a path that the workers see too.
    """
    target = scorer.bundle.manifest.target
    names = [ENTITY_ID, *(field.name for field in scorer.bundle.manifest.inputs)]
    schema = f"{ENTITY_ID} string, `predicted_{target}` double, low double, high double, refused string"
    beside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    former = folder.with_name(f"{beside.name}-former")
    try:
        rows.select(*(f"`{name}`" for name in names)).mapInArrow(scorer, schema).write.parquet(
            beside.as_uri()
        )
        if folder.exists():
            folder.rename(former)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _opened(bundle: Bundle, pointer: Pointer, revision: CalibrationRevision | None) -> Champion:
    key = pointer.manifest_sha256, revision.number if revision else None
    if key not in _champions:
        _champions.clear()
        _champions[key] = prepare(bundle, pointer, revision=revision)
    return _champions[key]


def _values(column: pa.Array) -> Sequence[Any]:
    """Numbers as an array with NaN for what is missing, texts as a list."""
    values: Sequence[Any] = (
        column.to_numpy(zero_copy_only=False) if column.type == "double" else column.to_pylist()
    )
    return values
