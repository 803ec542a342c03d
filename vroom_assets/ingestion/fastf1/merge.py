"""Rows put into a CSV of laps: by their keys, in one step, and the same rows twice change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vroom_api.contract import durable
from vroom_assets.ingestion.fastf1.laps import COLUMNS
from vroom_assets.sources import Observation, observe

SESSION = ["season", "circuit", "session"]
KEY = [*SESSION, "driver", "lap"]


class FileRefused(Exception):
    """The file that is there cannot be added to."""


class FileChanged(Exception):
    """Somebody else wrote the file meanwhile: merge again."""


@dataclass(frozen=True)
class Merged:
    """The file as it is now, and what became of its rows."""

    table: pd.DataFrame
    added: int
    changed: int
    removed: int
    written: bool  # false where the file held all of it already


def merge(path: Path, tables: Sequence[pd.DataFrame], *, alone: bool = False) -> Merged:
    """Replace the rows that the file has of these sessions by those given; all others stay.

    A lap that was there keeps its id, others get the next ones. Rows are in the order of `finished_at`. The
    file is written beside the old one and renamed, so that no reader meets half of it.

    Args:
        tables: one for each session, all columns but `lap_id`, as text.
        alone: other sessions do not stay.

    Raises:
        FileRefused: the file is not such a CSV. FileChanged: it was written meanwhile.
    """
    observed = observe(path, None)
    before = _read(path) if not observed.missing else pd.DataFrame(columns=list(COLUMNS), dtype=str)
    new = pd.concat(tables, ignore_index=True)
    read = set(_keys(new, SESSION))
    mine = pd.Series([alone or key in read for key in _keys(before, SESSION)], before.index, dtype=bool)
    known = dict(zip(_keys(before, KEY), before["lap_id"], strict=True))
    new.insert(0, "lap_id", _ids(_keys(new, KEY), known, before["lap_id"]))

    after = pd.concat([before[~mine], new[list(COLUMNS)]], ignore_index=True)
    after = after.sort_values("finished_at", kind="stable", ignore_index=True)
    text = after.to_csv(index=False, lineterminator="\n").encode()
    written = observed.missing or path.read_bytes() != text
    if written:
        _replace(path, text, observed)
    rows_before = set(before[mine].itertuples(index=False, name=None))
    rows_after = set(new[list(COLUMNS)].itertuples(index=False, name=None))
    kept, there = set(_keys(new, KEY)), set(_keys(before[mine], KEY))
    added, removed = len(kept - there), len(there - kept)
    return Merged(after, added, len(rows_after - rows_before) - added, removed, written)


def _read(path: Path) -> pd.DataFrame:
    """The cells as text, whatever they hold: to judge them is the task of the source's check."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FileRefused(f"{path} is not a CSV of laps ({error}); repair it, or move it away") from error
    if sorted(table.columns) != sorted(COLUMNS):
        missing = [name for name in COLUMNS if name not in table.columns]
        others = [name for name in table.columns if name not in COLUMNS]
        raise FileRefused(
            f"{path} has other columns than laps have (missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(others) or 'none'}); give it those of data/README.md, or move it away"
        )
    return table[list(COLUMNS)].fillna("")


def _keys(table: pd.DataFrame, columns: list[str]) -> list[tuple[str, ...]]:
    return list(table[columns].itertuples(index=False, name=None))


def _ids(keys: Sequence[tuple[str, ...]], known: dict[tuple[str, ...], str], taken: pd.Series) -> list[str]:
    numbers = pd.to_numeric(taken, errors="coerce")
    following = int(numbers.max()) + 1 if numbers.notna().any() else 1
    ids = []
    for key in keys:
        if key in known:
            ids.append(known[key])
        else:
            ids.append(str(following))
            following += 1
    return ids


def _replace(path: Path, text: bytes, read: Observation) -> None:
    """Write beside and rename, if the content that is there is still the one that was read."""
    with durable.replaced(path) as beside:
        beside.write_bytes(text)
        durable.sync(beside)
        if observe(path, read).sha256 != read.sha256:
            raise FileChanged(f"{path} was written while laps were added to it; they are added again")
