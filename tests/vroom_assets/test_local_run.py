"""What Dagster's pages find of a run that was executed before they were there."""

import dagster as dg
import pytest

from vroom_assets.local_run import execute


@pytest.mark.parametrize("works", [True, False])
def test_a_run_belongs_to_the_code_location_and_says_how_it_ended(instance, works):
    @dg.asset
    def one() -> None:
        if not works:
            raise dg.Failure("it does not")

    made = dg.Definitions(
        assets=[one],
        jobs=[dg.define_asset_job("all", tags={"own": "tag"})],
        executor=dg.in_process_executor,
    )
    job = made.resolve_job_def("all")
    assert execute(instance, job, {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}) is works
    of_the_job = dg.RunsFilter(job_name="all", tags={".dagster/repository": "__repository__@vroom"})
    (run,) = instance.get_runs(of_the_job)
    assert run.status is (dg.DagsterRunStatus.SUCCESS if works else dg.DagsterRunStatus.FAILURE)
    assert run.tags["own"] == "tag"
    assert run.remote_job_origin.location_name == "vroom"
    assert (instance.get_latest_materialization_event(dg.AssetKey("one")) is not None) is works
