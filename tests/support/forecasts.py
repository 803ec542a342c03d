"""Declarations as they are shipped, their graphs on Dagster, and the ledger of what these did."""

from pathlib import Path

import dagster as dg
import sqlalchemy as sa
import yaml
from dagster.components.core.defs_module import ComponentPath

from tests.support import environment
from tests.support.project import ROOT
from vroom_api.contract.tables import alerts, ledger, serving_database
from vroom_assets import resources, tracking
from vroom_assets.declaration.completion import completed
from vroom_assets.declaration.rules import contradictions
from vroom_assets.forecast import Forecast, failures
from vroom_assets.ledger import Ledger
from vroom_assets.run_workers import watched_in_process_executor
from vroom_assets.spec import ForecastSpec

DEFS = ROOT / "vroom_assets" / "defs"


def shipped(name: str, **changes: object) -> Forecast:
    """A declaration as it is shipped, but for some of its fields."""
    folder = DEFS / name
    attributes, _ = completed(yaml.safe_load((folder / "defs.yaml").read_text())["attributes"] | changes)
    return Forecast(
        **attributes,
        features_sql=(folder / "features.sql").read_text(),
        target_sql=(folder / "target.sql").read_text(),
        examples_sql={
            table: (folder / f"{table}.sql").read_text() for table in attributes.get("examples") or {}
        },
    )


def contradictions_of(spec: ForecastSpec) -> str:
    """What the fields of a declaration say against each other, a line each."""
    return "\n".join(f"{field}: {message}" for field, message in contradictions(spec, spec.name))


def definitions(spec: Forecast) -> dg.Definitions:
    """One forecast with the resources of the code location."""
    context = dg.ComponentTree.for_test().load_context.for_component_loc(
        ComponentPath.from_path(DEFS / spec.name)
    )
    return dg.Definitions.merge(
        spec.build_defs(context),
        dg.Definitions(
            executor=watched_in_process_executor,
            resources={
                "warehouse": resources.Warehouse(),
                "registry": tracking.Registry(),
                "ledger": Ledger(),
                "mlflow": tracking.tracked_training,
            },
            sensors=[failures.report_failures, failures.report_terminated_runs],
        ),
    )


def train(spec: Forecast, home: Path, data: Path) -> None:
    """Run everything from the CSVs to the champion, once, in a home that tests take copies of."""
    folders = {"VROOM_HOME": str(home), "VROOM_DATA": str(data)}
    with environment.of_its_own(**folders), dg.DagsterInstance.ephemeral() as one:
        job = definitions(spec).resolve_job_def(f"{spec.name}_retrain")
        assert job.execute_in_process(instance=one).success


def entries(event: str | None = None) -> list[sa.Row]:
    """The ledger, oldest first."""
    with serving_database() as engine, engine.connect() as connection:
        query = sa.select(ledger).order_by(ledger.c.id)
        return list(connection.execute(query.where(ledger.c.event == event) if event else query))


def opened() -> list[sa.Row]:
    """The open alerts, oldest first."""
    with serving_database() as engine, engine.connect() as connection:
        query = sa.select(alerts).where(alerts.c.resolved_at.is_(None)).order_by(alerts.c.id)
        return list(connection.execute(query))
