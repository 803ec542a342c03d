"""The environment of a test: what it sets itself, and no system that another test or the shell points at."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

POINTERS = ("VROOM_DATABASE_URL", "MLFLOW_TRACKING_URI", "DAGSTER_HOME", "VROOM_FORECAST")


@contextmanager
def of_its_own(**variables: str) -> Iterator[None]:
    """Point at these and at no other system; afterwards every variable is as it was, whoever changed it.

    Commands hand variables down to what they start (`settings.hand_down_home`), so one that runs in the process
    of the tests changes the environment of them all, and `monkeypatch` knows nothing of it.
    """
    before = dict(os.environ)
    for name in POINTERS:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
