"""What tests of Spark need, or why they are skipped."""

import pytest

from vroom_assets.spark.session import SparkMissing, require

LOCAL = "local[2]"


def reason_to_skip() -> str:
    """Why Spark cannot run here; empty where it can."""
    try:
        require(LOCAL)
    except SparkMissing as error:
        return str(error)
    return ""


needed = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "Spark is here")
