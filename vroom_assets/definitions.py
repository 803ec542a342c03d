"""The Dagster code location: every forecast declared under ``defs/`` (or the folder VROOM_DEFS)."""

import dagster as dg

from vroom_assets import automation, declaration, forecast, resources


@dg.definitions
def defs() -> dg.Definitions:
    shared = dg.Definitions(
        executor=dg.in_process_executor,
        resources={
            "warehouse": resources.Warehouse(),
            "registry": resources.Registry(),
            "ledger": resources.Ledger(),
            "mlflow": resources.tracked_training,
        },
        sensors=[automation.report_failures],
    )
    return dg.Definitions.merge(
        *(forecast.declared(folder, shared) for folder in declaration.folders()), shared
    )
