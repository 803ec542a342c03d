"""A run in this process, before any code server is there, that Dagster's pages show like any other."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG
from dagster._core.utils import make_new_run_id

LOCATION, REPOSITORY = "vroom", "__repository__"  # as the supervisor's workspace and Dagster name them


def execute(instance: dg.DagsterInstance, job: dg.JobDefinition, run_config: Mapping[str, Any]) -> bool:
    """Execute a job, whose executor is Dagster's in-process one, and return whether it succeeded.

    The run belongs to the code location that is started after it: one of none is neither on the timeline nor with
    its job.
    """
    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name=LOCATION)  # never asked
    repository = RemoteRepositoryOrigin(location, REPOSITORY)
    run = instance.create_run_for_job(
        job,
        run_id=make_new_run_id(),
        run_config=run_config,
        tags={**job.tags, REPOSITORY_LABEL_TAG: repository.get_label()},
        remote_job_origin=RemoteJobOrigin(repository, job.name),
    )
    return execute_run(InMemoryJob(job), run, instance).success
