"""MLflow: runs, the registry, and what a failed run left open."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vroom_api.contract import Manifest, Pointer, home, read_bundle
from vroom_api.contract.environment import sqlite_url
from vroom_assets.relocation import relocate
from vroom_assets.settings import tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

MANIFEST_TAG = "vroom.manifest_sha256"
BUNDLE_TAG = "vroom.bundle"  # where the bundle is among the run's artifacts; without it in `bundle`
DAGSTER_RUN_TAG = "dagster_run_id"
VERDICT = "Latest contest: "  # begins the last paragraph of a version's description
# What MLflow takes an experiment for, which else it guesses.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"


def artifacts_uri() -> str:
    """Where MLflow keeps artifacts when no tracking server decides it."""
    return (home() / "mlflow" / "artifacts").as_uri()


def connect() -> MlflowClient:
    """A client of the tracking server, or of the home's own database where the home is now."""
    from mlflow import MlflowClient

    settle()
    return MlflowClient(tracking_uri())


def settle() -> None:
    """Make the folder of MLflow in the home, and bring its database to where the home is now."""
    database = home() / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    if tracking_uri() == sqlite_url(database):
        relocate(database, artifacts_uri())


class Registry(dg.ConfigurableResource):
    """The MLflow model registry, read and marked by the contest, the champion and roll-back."""

    def client(self) -> MlflowClient:
        return connect()

    def version_of(self, forecast: str, alias: str) -> int | None:
        """The version under an alias, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return int(self.client().get_model_version_by_alias(forecast, alias).version)
        except MlflowException:
            return None

    def challenger(self, forecast: str) -> tuple[Manifest, str]:
        """The manifest of the version under the alias `challenger` and its digest.

        Raises:
            LookupError: nothing was trained yet, or the training did not finish.
        """
        version = self.version_of(forecast, "challenger")
        if version is None:
            raise LookupError(f"{forecast}: there is no challenger yet; materialize `challenger` first")
        digest = self.manifest_sha256(forecast, version)
        with self.bundle(forecast, version) as folder:
            return read_bundle(folder, digest, forecast).manifest, digest

    def note_verdict(self, forecast: str, version: int, verdict: str, reason: str) -> None:
        """Put the verdict of the latest contest on a version's page, below what it says of itself."""
        client = self.client()
        client.set_model_version_tag(forecast, str(version), "vroom.verdict", verdict)
        description = client.get_model_version(forecast, str(version)).description or ""
        own = description.partition(VERDICT)[0].rstrip()
        client.update_model_version(forecast, str(version), f"{own}\n\n{VERDICT}{verdict}: {reason}".strip())

    def set_alias(self, forecast: str, alias: str, version: int) -> None:
        self.client().set_registered_model_alias(forecast, alias, str(version))

    def mark_champion(self, forecast: str, pointer: Pointer) -> bool:
        """Let the alias `champion` name what serves, and say whether it does.

        Where MLflow lost that version, or has another one under its number, it names none.
        """
        from mlflow.exceptions import MlflowException

        if self.holds(forecast, pointer.version, pointer.manifest_sha256):
            self.set_alias(forecast, "champion", pointer.version)
            return True
        try:
            self.client().delete_registered_model_alias(forecast, "champion")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        return False

    def holds(self, forecast: str, version: int, manifest_sha256: str) -> bool:
        """Whether a version is registered, with this manifest."""
        try:
            return self.manifest_sha256(forecast, version) == manifest_sha256
        except LookupError:
            return False

    def manifest_sha256(self, forecast: str, version: int) -> str:
        """The digest of a version's manifest as it was registered.

        Raises:
            LookupError: MLflow does not have the version, or its training did not finish.
        """
        from mlflow.exceptions import MlflowException

        try:
            tags = self.client().get_model_version(forecast, str(version)).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise LookupError(
                f"MLflow does not have {forecast} version {version} any more; train again, with the job {forecast}_retrain"
            ) from error
        if MANIFEST_TAG not in tags:
            raise LookupError(f"{forecast} version {version} has no bundle: its training did not finish")
        return tags[MANIFEST_TAG]

    @contextmanager
    def bundle(self, forecast: str, version: int) -> Iterator[Path]:
        """The files of a registered version's bundle, for the length of a block."""
        registered = self.client().get_model_version(forecast, str(version))
        with tempfile.TemporaryDirectory() as folder:
            path = registered.tags.get(BUNDLE_TAG, "bundle")
            yield Path(self.client().download_artifacts(registered.run_id or "", path, folder))


class TrackedTraining:
    """Opens exactly one MLflow run per training, through dagster-mlflow, and ends it with its true status.

    dagster-mlflow starts its run when the resource starts, for every job that contains the training,
    whether or not the training is reached, and leaves ending it to hooks that asset jobs do not have.
    Here the run is opened by the training itself and ended by it.
    """

    def __init__(self, context: dg.InitResourceContext):
        self._context = context

    @contextmanager
    def run(self, forecast: str, tags: dict[str, str]) -> Iterator[Any]:
        """An active MLflow run: the module's functions, as dagster-mlflow offers them.

        Raises:
            dagster.Failure: MLflow does not answer.
        """
        import warnings

        import mlflow
        from mlflow.exceptions import MlflowException

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            from dagster_mlflow.resources import MlFlow

        mlflow.set_tracking_uri(tracking_uri())
        client = connect()
        tags = self._origin() | tags
        try:
            experiment = _experiment_of(client, forecast)
            # One training of a forecast runs at a time: what another one left open, it left.
            others = f"tags.{DAGSTER_RUN_TAG} != '{tags[DAGSTER_RUN_TAG]}'"
            _close(client, experiment, others, "MLflow did not answer when it ended", "FAILED")
            run = client.create_run(experiment, tags=tags, run_name=f"{forecast}, not finished")
        except MlflowException as error:
            raise _unreachable(error) from error
        config = {
            "experiment_name": forecast,
            "mlflow_run_id": run.info.run_id,
            "env": {},
            "extra_tags": tags,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            tracking = MlFlow(self._context.replace_config(config))
        try:
            yield tracking
        except BaseException as error:
            terminated = isinstance(error, (KeyboardInterrupt, dg.DagsterExecutionInterruptedError))
            # Where MLflow is why it failed, that is what has to be seen; the run that is left open is ended later.
            with contextlib.suppress(MlflowException):
                mlflow.set_tag("vroom.error", f"{type(error).__name__}: {error}"[:5000])
                _withdraw(client, run.info.run_id)
            with contextlib.suppress(MlflowException):  # in any case, it is this process's run no more
                mlflow.end_run(status="KILLED" if terminated else "FAILED")
            if isinstance(error, MlflowException):
                raise _unreachable(error) from error
            raise
        mlflow.end_run()

    def _origin(self) -> dict[str, str]:
        """Who and what started the run, as MLflow's columns *User* and *Source* show it."""
        from mlflow.tracking.context.registry import resolve_tags
        from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

        run = self._context.run
        job = {MLFLOW_SOURCE_NAME: f"Dagster {run.job_name}", MLFLOW_SOURCE_TYPE: "JOB"} if run else {}
        return resolve_tags() | job | {DAGSTER_RUN_TAG: run.run_id if run else ""}


def _experiment_of(client: MlflowClient, forecast: str) -> str:
    """The id of a forecast's experiment, which is made where there is none."""
    experiment = client.get_experiment_by_name(forecast)
    by_server = tracking_uri().startswith("http")  # then the server decides where artifacts are
    own_store = None if by_server else f"{artifacts_uri()}/{forecast}"
    experiment_id: str = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(forecast, artifact_location=own_store)
    )
    if experiment is None or KIND_TAG not in experiment.tags:
        client.set_experiment_tag(experiment_id, KIND_TAG, KIND)
    return experiment_id


def _unreachable(error: Exception) -> dg.Failure:
    return dg.Failure(
        description=(
            f"MLflow at {tracking_uri()} did not take what the training had to record, so there is no new version; what "
            f"serves goes on without it. Start MLflow, or see MLFLOW_TRACKING_URI; the training is asked for again "
            f"after a minute, and later with growing pauses. It answered: {error}"
        )
    )


def _withdraw(client: MlflowClient, run_id: str) -> None:
    """Delete the versions that a run registered before it failed: they were never finished."""
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.delete_model_version(version.name, version.version)


@dg.resource(description="Opens one MLflow run per training and ends it with its true status.")
def tracked_training(context: dg.InitResourceContext) -> TrackedTraining:
    return TrackedTraining(context)


def close_orphans(forecast: str, dagster_run_id: str, reason: str, status: str = "FAILED") -> list[str]:
    """End the MLflow runs that a dead Dagster run left open, without what they registered, and return their ids.

    Where MLflow does not answer they stay open until the next training.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = connect()
        experiment = client.get_experiment_by_name(forecast)
        if experiment is None:
            return []
        whose = f"tags.{DAGSTER_RUN_TAG} = '{dagster_run_id}'"
        return _close(client, experiment.experiment_id, whose, reason, status)
    except MlflowException:
        return []


def _close(client: MlflowClient, experiment_id: str, whose: str, reason: str, status: str) -> list[str]:
    """End the open runs of an experiment that a filter finds, without what they registered, and return their ids."""
    from mlflow.entities import ViewType

    open_runs = client.search_runs(
        [experiment_id], f"{whose} and attributes.status = 'RUNNING'", run_view_type=ViewType.ACTIVE_ONLY
    )
    for run in open_runs:
        client.set_tag(run.info.run_id, "vroom.error", reason)
        _withdraw(client, run.info.run_id)
        client.set_terminated(run.info.run_id, status)
    return [run.info.run_id for run in open_runs]
