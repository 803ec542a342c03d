"""The Dagster code location: every forecast and ingestion declared under ``defs/``."""

from pathlib import Path

import dagster as dg

from vroom_assets import automation, resources


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        dg.Definitions(
            executor=dg.in_process_executor,
            resources={
                "warehouse": resources.Warehouse(),
                "registry": resources.Registry(),
                "ledger": resources.Ledger(),
                "mlflow": resources.tracked_training,
            },
            sensors=[automation.report_failures],
        ),
    )
