"""The Dagster code location: every forecast declared under ``defs/`` (or the folder VROOM_DEFS), and the ingestions."""

from pathlib import Path

import dagster as dg

from vroom_assets import automation, declaration, forecast, ingestion, resources

INGESTIONS = Path(ingestion.__file__).parent


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
        *(forecast.declared(folder, shared) for folder in declaration.folders()),
        *(
            forecast.component_tree(file.parent).build_defs(file.parent)
            for file in sorted(INGESTIONS.glob("*/defs.yaml"))
        ),
        shared,
    )
