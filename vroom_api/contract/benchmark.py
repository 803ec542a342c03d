"""Predictions of a benchmark: real and recorded, and left out wherever predictions are judged."""

from typing import Final

import sqlalchemy as sa

from vroom_api.contract.tables import predictions

BENCHMARK_TAG: Final = "vroom_benchmark"  # its value is the id of the benchmark


def is_no_benchmark() -> sa.ColumnElement[bool]:
    """Whether a recorded prediction was asked for by somebody who wanted to know it."""
    return predictions.c.tags[BENCHMARK_TAG].as_string().is_(None)
