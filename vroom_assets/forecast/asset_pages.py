"""What the page of an asset shows besides numbers: tables, and plots over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd

PLOTTED = 120  # points of a line, the latest
LISTED = 20  # rows of a table


def table(frame: pd.DataFrame) -> dg.MetadataValue:
    """A table as metadata."""
    return dg.MetadataValue.md(frame.to_markdown(index=False) if len(frame) else "none yet")


def plot(name: str, frame: pd.DataFrame, title: str, unit: str) -> dict[str, dg.MetadataValue]:
    """A plot over time as metadata, where there is a line to draw."""
    from vroom_assets import plots

    if len(frame) < 2 or not len(frame.columns):
        return {}
    picture = plots.png(plots.over_time(frame, title, unit))
    return {name: dg.MetadataValue.md(plots.markdown(picture, title))}
