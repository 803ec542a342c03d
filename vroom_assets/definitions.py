"""The Dagster code location: every forecast declared under ``defs/`` (or the folder VROOM_DEFS), and the ingestions."""

import logging
from pathlib import Path

import dagster as dg

from vroom_assets import automation, declaration, forecast, ingestion, resources

INGESTIONS = Path(ingestion.__file__).parent


@dg.logger(
    {"log_level": dg.Field(str, default_value="WARNING"), "name": dg.Field(str, default_value="vroom")}
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """What a run says in the terminal: what needs somebody. All of it is on the run's page."""
    return dg.colored_console_logger.logger_fn(context)


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
        loggers={"console": console},
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
