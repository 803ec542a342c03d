"""What has another try, and what has none."""

import os
import signal
from collections.abc import Callable

import dagster as dg
import pytest

from vroom_assets.retries import retried


def tries(instance: dg.DagsterInstance, body: Callable[[], None]) -> int:
    """How often an asset's body is called that may be tried three times."""
    calls = []

    @dg.asset
    def one(context: dg.AssetExecutionContext) -> None:
        calls.append(context.retry_number)
        with retried(context, dg.RetryPolicy(max_retries=2, delay=0)):
            body()

    dg.materialize([one], instance=instance, raise_on_error=False)
    return len(calls)


def fails(error: Exception) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("the disk is full"), 3),
        (dg.Failure("it is being written"), 3),
        (dg.Failure("a column is missing", allow_retries=False), 1),
    ],
)
def test_an_error_has_as_many_tries_as_the_policy_gives_it(instance, error, expected):
    assert tries(instance, fails(error)) == expected


def test_what_somebody_terminates_has_no_other_try(instance):
    assert tries(instance, lambda: os.kill(os.getpid(), signal.SIGINT)) == 1
