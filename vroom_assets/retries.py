"""Another try for what fails, and none for what somebody terminates."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def retried(context: dg.AssetExecutionContext, policy: dg.RetryPolicy) -> Iterator[None]:
    """The body of an asset, which has another try after an error, unless it says that none would mend it.

    Dagster's own ``retry_policy`` takes the end that somebody puts to a run for a failed step, and tries again.

    Raises:
        RetryRequested: the body failed; Dagster makes it a failure once the policy's tries are used up.
    """
    try:
        yield
    except (dg.DagsterError, dg.RetryRequested):
        raise
    except Exception as error:
        if isinstance(error, dg.Failure) and not error.allow_retries:
            raise
        raise dg.RetryRequested(
            policy.max_retries, policy.calculate_delay(context.retry_number + 1)
        ) from error
