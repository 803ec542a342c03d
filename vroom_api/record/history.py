"""Reading the record: filters, pages newest first, and export."""

import csv
import io
import tempfile
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
import sqlalchemy as sa

from vroom_api.contract.blocks import expand_blocks
from vroom_api.contract.ids import first_id
from vroom_api.contract.tables import predictions

MAX_PAGE = 500
_EXPORTED_AT_ONCE = 2_000  # rows


class UnknownPrediction(Exception):
    """No prediction of this id is in the record."""


class ParquetUnavailable(Exception):
    """The library that writes Parquet is not a dependency of the service, and it is not installed."""


class Recorded(msgspec.Struct, frozen=True):
    """One prediction as the record holds it. A feature is null where it has no finite value."""

    id: str
    time: datetime
    forecast: str
    caller: str
    entity_id: str | None
    inputs: dict[str, float | str | None]
    features: dict[str, float | None]
    value: float
    low: float
    high: float
    level: float
    version: int
    generation: int
    manifest_sha256: str
    data_version: str
    latency_us: int
    tags: dict[str, str] | None = None
    calibration: int | None = None  # the revision of the intervals; null for those of the bundle


class Page(msgspec.Struct, frozen=True):
    """Predictions, newest first; `next` is the `before` of the following page, null on the last one."""

    predictions: list[Recorded]
    next: str | None


class Filter(msgspec.Struct, frozen=True):
    """Which predictions; what is None does not restrict. `start` is inclusive, `end` exclusive."""

    forecast: str | None = None
    version: int | None = None
    caller: str | None = None
    entity_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    tag: tuple[str, str] | None = None  # name and value


def prediction(engine: sa.Engine, identifier: str) -> Recorded:
    """One prediction.

    Raises:
        UnknownPrediction: the record does not hold it.
    """
    expand_blocks(engine, {identifier})
    with engine.connect() as connection:
        row = connection.execute(predictions.select().where(predictions.c.id == identifier)).one_or_none()
    if row is None:
        raise UnknownPrediction(
            f"{identifier}: not in the record; it was never answered, or its retention is over"
        )
    return _recorded(row)


def page(engine: sa.Engine, wanted: Filter, *, before: str | None = None, size: int = 100) -> Page:
    """At most `size` predictions that are older than the one called `before`."""
    expand_blocks(engine)
    with engine.connect() as connection:
        rows = connection.execute(_query(wanted, before).limit(size + 1)).all()
    found = [_recorded(row) for row in rows[:size]]
    return Page(found, found[-1].id if len(rows) > size else None)


def pieces(engine: sa.Engine, wanted: Filter, *, maximum: int | None = None) -> Iterator[list[Recorded]]:
    """All predictions, newest first, a bounded number at a time; no connection is held between pieces."""
    before, left = None, maximum
    while left is None or left > 0:
        size = _EXPORTED_AT_ONCE if left is None else min(left, _EXPORTED_AT_ONCE)
        found = page(engine, wanted, before=before, size=size)
        if found.predictions:
            yield found.predictions
        if found.next is None:
            return
        before = found.next
        left = None if left is None else left - size


def csv_pieces(engine: sa.Engine, wanted: Filter) -> Iterator[bytes]:
    """The predictions as CSV, newest first; inputs and features are JSON objects in one cell each.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(Recorded.__struct_fields__)
    for piece in pieces(engine, wanted):
        writer.writerows([_safe(cell) for cell in _cells(one)] for one in piece)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def parquet_file(engine: sa.Engine, wanted: Filter) -> BinaryIO:
    """The predictions as Parquet in a temporary file, which is gone once closed.

    Raises:
        ParquetUnavailable: pyarrow is not installed beside the service.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ParquetUnavailable(
            "Parquet needs pyarrow, which is not installed beside this service; ask for CSV, or install pyarrow"
        ) from error
    types = {
        datetime: pa.timestamp("us", tz="UTC"),
        float: pa.float64(),
        int: pa.int64(),
        int | None: pa.int64(),
    }
    annotations = Recorded.__annotations__
    schema = pa.schema([(name, types.get(annotations[name], pa.string())) for name in annotations])
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- handed to the caller
    try:
        with pq.ParquetWriter(file, schema) as writer:
            for piece in pieces(engine, wanted):
                columns = zip(*(_cells(one, moment=False) for one in piece), strict=True)
                arrays = [
                    pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _query(wanted: Filter, before: str | None) -> sa.Select[Any]:
    query = predictions.select().order_by(predictions.c.id.desc())
    for column, value in (
        (predictions.c.forecast, wanted.forecast),
        (predictions.c.version, wanted.version),
        (predictions.c.caller, wanted.caller),
        (predictions.c.entity_id, wanted.entity_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.start is not None:
        query = query.where(predictions.c.id >= first_id(wanted.start))
    if wanted.end is not None:
        query = query.where(predictions.c.id < first_id(wanted.end))
    if wanted.tag is not None:
        name, value = wanted.tag
        query = query.where(predictions.c.tags[name].as_string() == value)
    if before is not None:
        query = query.where(predictions.c.id < before)
    return query


def _recorded(row: sa.Row[Any]) -> Recorded:
    fields = dict(row._mapping)
    if fields["time"].tzinfo is None:  # SQLite keeps no zone; the record is in UTC
        fields["time"] = fields["time"].replace(tzinfo=UTC)
    else:
        fields["time"] = fields["time"].astimezone(UTC)
    return Recorded(**fields)


def _cells(one: Recorded, *, moment: bool = True) -> list[Any]:
    """The fields as table cells: objects as JSON, and the time as text where `moment` is true."""
    cells: list[Any] = list(msgspec.structs.astuple(one))
    for index, cell in enumerate(cells):
        if isinstance(cell, dict):
            cells[index] = msgspec.json.encode(cell).decode()
        elif moment and isinstance(cell, datetime):
            cells[index] = cell.isoformat()
    return cells


def _safe(cell: Any) -> Any:
    # Spreadsheets in East Asia take the wide forms for the plain ones (＝ for =), as NFKC does.
    if isinstance(cell, str) and unicodedata.normalize("NFKC", cell[:1]).startswith(("=", "+", "-", "@")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell
