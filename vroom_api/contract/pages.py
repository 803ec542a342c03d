"""Where people open the pages of the system, and the links that lead from one to another."""

from typing import NamedTuple

MLFLOW_VIEW = "?workflowType=machine_learning"  # without it MLflow's pages open on language models


class Pages(NamedTuple):
    """The address of each page; None where it is not known, and then there are no links to it."""

    service: str | None = None
    dagster: str | None = None
    mlflow: str | None = None

    def champion(self, forecast: str) -> str | None:
        """The service's page of a forecast."""
        return f"{self.service}/?forecast={forecast}" if self.service else None

    def dagster_run(self, run_id: str) -> str | None:
        return f"{self.dagster}/runs/{run_id}" if self.dagster and run_id else None

    def mlflow_version(self, forecast: str, version: int) -> str | None:
        return f"{self.mlflow}/#/models/{forecast}/versions/{version}{MLFLOW_VIEW}" if self.mlflow else None


UNKNOWN = Pages()
