"""What some tests need and not every machine has."""

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test with the reason; in CI, where everything should be there, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"CI should have it: {reason}", pytrace=False)
    pytest.skip(reason)
