"""Sources: raw CSVs, observed by content, kept as snapshots, checked row by row into DuckDB.

`files` observes a CSV and copies it, `lines` makes its bytes safe to be read line by line, `table` turns
lines into typed rows by the declaration's rules alone (`columns`, `cells`), and `findings` and `report` say what was
found, with line numbers.
Bad rows go to the table `quarantine`; too many of them, and the whole file is refused while the table from
before stays.
"""

from vroom_assets.sources.files import (
    NamedFile,
    Observation,
    Snapshot,
    SourceChanged,
    SourceError,
    files_like,
    keep,
    kept,
    observe,
    snapshot,
)
from vroom_assets.sources.published import remove_unused
from vroom_assets.sources.quarantine import write as write_quarantine
from vroom_assets.sources.report import Finding, SourceRefused, SourceReport
from vroom_assets.sources.table import Engine, load

__all__ = [
    "Engine",
    "Finding",
    "NamedFile",
    "Observation",
    "Snapshot",
    "SourceChanged",
    "SourceError",
    "SourceRefused",
    "SourceReport",
    "files_like",
    "keep",
    "kept",
    "load",
    "observe",
    "remove_unused",
    "snapshot",
    "write_quarantine",
]
