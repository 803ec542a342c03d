"""The Dagster code location: every forecast declared under ``defs/`` (or the folder VROOM_DEFS), and the ingestions."""

from pathlib import Path

import dagster as dg

from vroom_assets import declaration, ingestion, ledger, resources, tracking
from vroom_assets.forecast import failures, loading

INGESTIONS = Path(ingestion.__file__).parent


@dg.definitions
def defs() -> dg.Definitions:
    shared = dg.Definitions(
        executor=dg.in_process_executor,
        resources={
            "warehouse": resources.Warehouse(),
            "registry": tracking.Registry(),
            "ledger": ledger.Ledger(),
            "mlflow": tracking.tracked_training,
        },
        sensors=[failures.report_failures],
    )
    return dg.Definitions.merge(
        *(loading.declared(folder, shared) for folder in declaration.folders()),
        *(
            loading.component_tree(file.parent).build_defs(file.parent)
            for file in sorted(INGESTIONS.glob("*/defs.yaml"))
        ),
        shared,
    )
