"""What is needed of one closed window: rows by cell of everything that is watched.

A summary knows of no threshold, so that a changed one holds for windows of the past too, and summaries of several windows
add up.
"""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from vroom_api.contract import Manifest
from vroom_api.contract.struct import ContractStruct
from vroom_assets.spec import Monitoring


class Summary(ContractStruct, frozen=True):
    """One window of one version, as it goes to JSON and back.

    predicted: predictions made. observed: predictions whose whole outcome arrived. partial: those of which a part of the
    horizon has passed.
    counts: units by cell, by stream: `feature:<name>`, `prediction`, `covered`, `loss`, `residual`, `misses`, `pit`,
        `reliability`, `scored`, `segment:<tag>=<value>`.
    sums: what adds up, by name.
    """

    start: datetime
    end: datetime
    predicted: int = 0
    observed: int = 0
    partial: int = 0
    counts: dict[str, list[float]] = {}
    sums: dict[str, float] = {}


def summarize(
    manifest: Manifest,
    rules: Monitoring,
    start: datetime,
    end: datetime,
    predicted: pd.DataFrame,
    observed: pd.DataFrame,
) -> Summary:
    """Summarize one closed window of the version that a manifest describes.

    What was predicted of one entity in a window is not independent: give the latest prediction of each. Rows that belong
    together otherwise, e.g. of one race, count as one where they have the same value in a column `group` (or, if there is no
    such column, in the tag by which training grouped its rows).

    Args:
        start, end: of the window; `end` does not belong to it.
        predicted: predictions made in the window; columns `prediction`, each feature by its name (NaN where it is
            missing), and `group` if rows belong together.
        observed: predictions whose outcome arrived in the window, each once in the life of a version with its whole outcome
            (`exposure` 1). Columns `prediction`, `outcome`, `exposure` (share of the horizon that has passed), `low`,
            `high`, `level` (NaN where there is no interval), each feature by name, `tag_<name>` for each tag, and `group`.
            Rows with a smaller exposure are of counts: their outcome so far is compared with prediction × exposure.

    Returns:
        a summary without counts where the manifest has no reference.
    """
    return Summary(start=start, end=end, predicted=len(predicted), observed=len(observed))
