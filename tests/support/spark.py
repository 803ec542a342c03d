"""What tests of Spark need, or why they are skipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from vroom_assets.spark.session import SparkMissing, require, session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL = "local[2]"


def reason_to_skip() -> str:
    """Why Spark cannot run here; empty where it can."""
    try:
        require(LOCAL)
    except SparkMissing as error:
        return str(error)
    return ""


needed = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "Spark is here")


@contextmanager
def shared() -> Iterator["SparkSession"]:
    """A session of the one Spark of this run's tests."""
    with session(LOCAL) as one:
        yield one
