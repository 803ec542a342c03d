"""Tables: the columns of a source and of examples, how a file is written, and the times at which examples stand."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, NaiveDatetime, PrivateAttr, field_validator, model_validator

from vroom_assets.spec.base import Declared


class ColumnType(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    CATEGORY = "category"  # a text whose values are learnt from the data
    TIMESTAMP = "timestamp"
    DATE = "date"  # a day, as its first moment
    FLAG = "flag"  # yes or no in any of its spellings, as 1 or 0
    PERCENT = "percent"  # 90 for `90%`
    CURRENCY = "currency"  # 1234.5 for `$1,234.50`
    DURATION = "duration"  # seconds, 84.5 for `1:24.500`
    ROW = "row"  # the number of the row in its file, for files in which no column tells rows apart

    @property
    def stored(self) -> "ColumnType":
        """The type of its values in tables, and everywhere behind them."""
        return STORED.get(self, self)


STORED = {
    ColumnType.CATEGORY: ColumnType.TEXT,
    ColumnType.DATE: ColumnType.TIMESTAMP,
    ColumnType.FLAG: ColumnType.INTEGER,
    ColumnType.PERCENT: ColumnType.NUMBER,
    ColumnType.CURRENCY: ColumnType.NUMBER,
    ColumnType.DURATION: ColumnType.NUMBER,
    ColumnType.ROW: ColumnType.INTEGER,
}

OTHER = "other"  # the level of a category for what is rare


class Unseen(StrEnum):
    """What becomes of a request with a category that training did not see."""

    ANSWER = "answer"
    REFUSE = "refuse"


class Column(Declared):
    """One column of a source: what a cell may hold. Bounds are inclusive unless they say `above`."""

    added = frozenset({"like", "earliest", "latest", "least_rows", "unseen", "header", "joins"})

    type: ColumnType
    like: str | None = Field(
        None,
        description="<source>.<column> that it is like: what is not given here is as there, but for `unique` and what is of "
        "the file",
    )
    description: str = ""
    unit: str | None = None
    minimum: float | None = None
    above: float | None = Field(None, description="exclusive lower bound")
    maximum: float | None = None
    earliest: NaiveDatetime | None = Field(None, description="of a timestamp: no cell may lie before")
    latest: NaiveDatetime | None = Field(None, description="of a timestamp: no cell may lie after")
    unique: bool = False
    nullable: bool = Field(False, description="whether a cell may be empty, and an input left out")
    values: list[str] = Field([], description="allowed values of a text column; required for an input")
    references: str | None = Field(None, description="<source>.<column> whose values this column may hold")
    least_rows: int = Field(
        10, ge=1, description=f"of a category: values in fewer rows count as one, `{OTHER}`"
    )
    unseen: Unseen = Field(
        Unseen.ANSWER,
        description=f"of a category: answer a request with a value that training did not see, as `{OTHER}` and flagged, "
        "or refuse it",
    )
    header: str | None = Field(None, description="its name in the file, where that is another one")
    joins: list[str] = Field(
        [],
        description="of a date or timestamp that stands in several columns of the file: their names there, in the order "
        "year, month (a number or an English name), day, hour, minute",
    )
    _learnt: tuple[str, ...] = PrivateAttr(())

    @property
    def is_category(self) -> bool:
        return self.type is ColumnType.CATEGORY

    @property
    def is_time(self) -> bool:
        return self.type.stored is ColumnType.TIMESTAMP

    @property
    def levels(self) -> list[str]:
        """The values of a text in their order: as declared, or as learnt from the data, `other` last."""
        return self.values or list(self._learnt)

    def with_levels(self, learnt: Sequence[str]) -> Self:
        """The column of a category with the levels that the data have."""
        column = self.model_copy()
        column._learnt = tuple(learnt)
        return column

    @property
    def lowest(self) -> float | None:
        """The least value, where it is known by the type or declared as a `minimum`."""
        return 0.0 if self.type is ColumnType.FLAG else self.minimum

    @property
    def highest(self) -> float | None:
        return 1.0 if self.type is ColumnType.FLAG else self.maximum

    @property
    def range(self) -> str:
        """The bounds as text, as error messages and the API's documentation give them."""
        low = f"≥ {self.lowest:g}" if self.lowest is not None else ""
        low = f"> {self.above:g}" if self.above is not None else low
        high = f"≤ {self.highest:g}" if self.highest is not None else ""
        return " and ".join(part for part in (low, high) if part) or ", ".join(self.values)

    @property
    def period(self) -> str:
        """The earliest and latest time in words."""
        begin = f"at or after {self.earliest}" if self.earliest is not None else ""
        end = f"at or before {self.latest}" if self.latest is not None else ""
        return " and ".join(filter(None, (begin, end)))

    @model_validator(mode="after")
    def _times_of_several_columns(self) -> Self:
        if not self.joins:
            return self
        least, most = (2, 3) if self.type is ColumnType.DATE else (4, 5)
        if self.type.stored is not ColumnType.TIMESTAMP:
            raise ValueError(
                f"joins: they make a time, and not a column of type {self.type}; declare `type: date`, or `timestamp`"
            )
        if not least <= len(self.joins) <= most:
            raise ValueError(
                f"joins: {len(self.joins)} columns make no {self.type}; name those of year, month and day for a date, of hour "
                "and minute too for a timestamp"
            )
        if self.header is not None:
            raise ValueError("header: the names in the file are those in `joins`; leave it out")
        return self

    @model_validator(mode="after")
    def _values_of_texts(self) -> Self:
        if self.values and self.type is not ColumnType.TEXT:
            raise ValueError(f"values: they are for texts; give a column of type {self.type} a range")
        if len(set(self.values)) != len(self.values):
            raise ValueError("values: one of them is given twice")
        return self


class Format(Declared):
    """How a file writes what its columns hold; as it stands here it is a CSV by RFC 4180 in UTF-8."""

    added = frozenset(
        {
            "delimiter",
            "quote",
            "escape",
            "encoding",
            "decimal",
            "thousands",
            "nulls",
            "dates",
            "zone",
            "skip",
            "header",
            "trim",
        }
    )

    delimiter: str = Field(",", min_length=1, max_length=1, description='between two cells; a tab is "\\t"')
    quote: str = Field('"', min_length=1, max_length=1, description="around a cell; inside it is doubled")
    escape: Literal["\\"] | None = Field(
        None,
        description="before a quote inside a cell that is not doubled, and before itself; MySQL writes so",
    )
    encoding: str = Field("utf-8", description="of the file, e.g. windows-1252, utf-16")
    decimal: Literal[".", ","] = Field(".", description="before the fraction of a number")
    thousands: Literal[".", ",", " ", "'"] | None = Field(None, description="between groups of three digits")
    nulls: list[str] = Field([], description="words that mean an empty cell, e.g. [NA, NULL, '-']")
    dates: list[str] = Field(
        [], description="how times are written, e.g. ['%d.%m.%Y', '%d.%m.%Y %H:%M']; else ISO 8601"
    )
    zone: str | None = Field(
        None, description="IANA time zone of times without an offset, e.g. Europe/Vienna; all become UTC"
    )
    skip: int = Field(0, ge=0, le=1000, description="lines before the header")
    header: list[str] = Field([], description="names of the columns of a file that has no header")
    trim: bool = Field(False, description="whether blanks around a text mean nothing, as around a number")

    @field_validator("dates", "nulls", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Source(Declared):
    """A raw CSV and the contract its rows must keep."""

    added = frozenset({"format"})

    path: str = Field(
        description="CSV or Parquet file, relative to the data folder; or a pattern (`laps/*.csv`) whose files are one source"
    )
    description: str
    columns: dict[str, Column]
    format: Format = Field(
        Format(), description="how the file is written, where that is not RFC 4180 and UTF-8"
    )
    event_time: str | None = Field(
        None, description="the column that says when a row happened; no example before it may know the row"
    )
    load_time: str | None = Field(
        None, description="the column that says when a row became known, where that is later"
    )
    tolerated_bad_share: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="bad rows up to this share are quarantined; above it the file is refused",
    )


class Period(StrEnum):
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


class AsOf(Declared):
    """The times at which examples stand: each time of a column, or the starts of periods.

    Periods that have too little history before them, or a target's window that is not closed, are left out.
    """

    events: str = Field(description="<source>.<column> that gives the times, or their first and last")
    every: Period | None = Field(None, description="start of each period; else the statement takes the times")
    history_days: float = Field(0, ge=0, description="least time between the first event and an example")
    horizon_days: float = Field(0, ge=0, description="time after an example that its target covers")


class Examples(Declared):
    """A table of examples, by `<name>.sql`: what was known of each entity at each time of `as_of`.

    The statement reads the sources and the table `as_of`, of one column of that name, and keeps it in its
    result. It is run again on the sources as they were at such a time, and must give the same rows.
    """

    description: str
    columns: dict[str, Column]
    as_of: AsOf
