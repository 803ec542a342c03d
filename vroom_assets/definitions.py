"""The Dagster code location: every forecast declared under ``defs/`` (or the folder VROOM_DEFS), and the ingestions."""

import warnings
from fnmatch import fnmatch
from pathlib import Path

import dagster as dg

from vroom_assets import declaration, ingestion, ledger, resources, tracking
from vroom_assets.forecast import commands, failures, loading
from vroom_assets.ingestion import WRITES
from vroom_assets.run_workers import watched_in_process_executor

INGESTIONS = Path(ingestion.__file__).parent


@dg.definitions
def defs() -> dg.Definitions:
    shared = dg.Definitions(
        executor=watched_in_process_executor,
        resources={
            "warehouse": resources.Warehouse(),
            "registry": tracking.Registry(),
            "ledger": ledger.Ledger(),
            "mlflow": tracking.tracked_training,
        },
        sensors=[failures.report_failures, failures.report_terminated_runs],
    )
    loaded = dg.Definitions.merge(
        *(loading.declared(folder, shared) for folder in declaration.folders()),
        *(
            loading.component_tree(file.parent).build_defs(file.parent)
            for file in sorted(INGESTIONS.glob("*/defs.yaml"))
        ),
        shared,
    )
    return with_writers(with_consumer(loaded))


def with_consumer(loaded: dg.Definitions) -> dg.Definitions:
    """With the sensor that starts what callers of the service ask for."""
    jobs = [job for job in loaded.jobs or () if job.name.endswith(tuple(commands.STAGES.values()))]
    if not jobs:
        return loaded
    return dg.Definitions.merge(loaded, dg.Definitions(sensors=[commands.command_sensor(jobs)]))


def with_writers(loaded: dg.Definitions) -> dg.Definitions:
    """The raw CSVs made to depend on the assets of ingestions that write them, by the path that both declare, or the pattern
    that the path is like.

    A raw CSV is observed and never made, so nothing of the forecast runs an ingestion.
    """
    specs = list(loaded.resolve_all_asset_specs())
    writers = {spec.metadata[WRITES]: spec.key for spec in specs if WRITES in spec.metadata}

    def with_writer(spec: dg.AssetSpec) -> dg.AssetSpec:
        path = spec.metadata.get("path")
        writer = next((key for written, key in writers.items() if path and fnmatch(written, path)), None)
        return spec.merge_attributes(deps=[writer]) if writer else spec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return loaded.map_asset_specs(func=with_writer)
