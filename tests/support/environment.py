"""The environment of a test: nothing that another test, a command or the shell has set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

ELSEWHERE = ("VROOM_DATABASE_URL", "MLFLOW_TRACKING_URI", "DAGSTER_HOME", "VROOM_FORECAST")


@contextmanager
def of_its_own() -> Iterator[None]:
    """Point at no system of anybody; afterwards every variable is as it was, whoever changed it.

    Commands hand variables down to what they start (`settings.hand_down_home`), so one that runs in the process
    of the tests changes the environment of them all, and `monkeypatch` knows nothing of it.
    """
    before = dict(os.environ)
    for name in ELSEWHERE:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
