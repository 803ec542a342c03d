"""The raw CSVs and the checked tables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vroom_api.contract import forecast_folder
from vroom_api.contract.events import Decision
from vroom_assets import disk, resources, settings
from vroom_assets.forecast.names import key
from vroom_assets.ledger import Ledger
from vroom_assets.spec import Column, ForecastSpec, Purpose

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from vroom_assets.sources import Engine, Observation
    from vroom_assets.sources.report import SourceReport


def observe_source(spec: ForecastSpec, name: str, *, afresh: bool = False) -> "Observation":
    """Observe a source, hashing it only if something may have touched it since anybody observed it.

    Args:
        afresh: hash it in any case: some file systems keep times and numbers that say nothing.

    Raises:
        SourceError: it is there and cannot be read.
    """
    from vroom_assets import sources

    file = observation_path(spec, name)
    before = None if afresh else sources.kept(file)
    observed = sources.observe(settings.data_folder() / spec.sources[name].path, before)
    if observed != before:
        sources.keep(observed, file)
    return observed


def observation_path(spec: ForecastSpec, name: str) -> Path:
    """Where the latest observation of a source is kept."""
    return forecast_folder(spec.name) / "observations" / f"{name}.json"


def raw_source(spec: ForecastSpec, name: str) -> dg.AssetsDefinition:
    source = spec.sources[name]

    own = key(spec, f"{name}_csv")

    @dg.multi_observable_source_asset(
        name=f"{spec.name}__{name}_csv",
        specs=[
            dg.AssetSpec(
                own,
                description=f"{source.description} Raw CSV at `{source.path}` in the data folder.",
                metadata={"path": source.path, "dagster/column_schema": column_schema(source.columns)},
            )
        ],
    )
    def raw(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
        observed = observe_source(spec, name)
        if observed.missing:
            raise dg.Failure(description=f"{source.path} is not there", allow_retries=False)
        yield dg.ObserveResult(
            asset_key=own,
            data_version=dg.DataVersion(observed.sha256),
            metadata={"sha256": observed.sha256, "size": observed.size},
        )

    return raw


def checked_table(spec: ForecastSpec, name: str) -> dg.AssetsDefinition:
    source = spec.sources[name]
    own = key(spec, name)
    referenced = {c.references.partition(".")[0] for c in source.columns.values() if c.references} - {name}

    @dg.asset(
        key=own,
        deps=[key(spec, f"{name}_csv"), *(key(spec, other) for other in sorted(referenced))],
        description=f"{source.description} Snapshot by content, checked row by row, in DuckDB.",
        code_version=spec.fingerprint(Purpose.DATA, "sources")[:12],
        check_specs=[
            dg.AssetCheckSpec(
                "accepted",
                asset=own,
                blocking=True,
                description=(
                    "The file keeps its declared columns, types, ranges, keys and references; "
                    f"up to {source.tolerated_bad_share:.1%} bad rows are set aside in quarantine."
                ),
            )
        ],
        pool=f"{spec.name}_warehouse",
        metadata={"dagster/column_schema": column_schema(source.columns)},
    )
    def table(
        context: dg.AssetExecutionContext, warehouse: resources.Warehouse, ledger: Ledger
    ) -> Iterator[Any]:
        if rebuilt := warehouse.repair(spec.name):
            reason = (
                f"{rebuilt.file} was damaged and is made again from the CSVs; it is kept as {rebuilt.aside}"
            )
            context.log.warning(f"{reason}: {rebuilt.error}")
            ledger.enter(
                forecast=spec.name,
                actor=f"job {context.job_name}",
                decision=Decision.REBUILT,
                reason=reason,
                evidence=rebuilt,
                run_id=context.run.run_id,
            )
        yield from check(spec, name, warehouse)

    return table


def check(spec: ForecastSpec, name: str, warehouse: resources.Warehouse) -> Iterator[Any]:
    """Copy a source, check it row by row, and replace its table: the body of the asset."""
    from vroom_assets import sources
    from vroom_assets.features import table as feature_table

    source, own = spec.sources[name], key(spec, name)
    path = settings.data_folder() / source.path
    folder = forecast_folder(spec.name)
    try:
        disk.require_room(sources.files_like(path))
        taken = sources.snapshot(path, folder / "snapshots", sources.kept(observation_path(spec, name)))
    except (sources.SourceError, disk.NoRoom) as error:
        yield dg.AssetCheckResult(check_name="accepted", passed=False, description=str(error))
        raise dg.Failure(
            description=str(error), allow_retries=isinstance(error, sources.SourceChanged)
        ) from error
    with (
        warehouse.connect(spec.name) as connection,
        _chosen_engine(connection, folder, taken.sha256) as engine,
    ):
        try:
            files = [
                sources.NamedFile(copy.path, f"data/{copy.source.relative_to(settings.data_folder())}")
                for copy in taken.copies
            ]
            report = sources.load(connection, name, source, files, spec.past_columns(name), engine)
        except sources.SourceRefused as error:
            report = error.report
            found = found_in(report)
            yield dg.AssetCheckResult(
                check_name="accepted", passed=False, description=str(error), metadata=found
            )
            raise dg.Failure(description=str(error), metadata=found, allow_retries=False) from error
        finally:
            sources.write_quarantine(connection, name, folder / "quarantine" / f"{name}.csv")
        sources.remove_unused(connection, folder)
        sample = connection.sql(f'select * from "{name}" limit 5').df()
        feature_table.note_origin(connection, name, {"snapshot": taken.sha256, "modified": taken.modified})
    yield dg.AssetCheckResult(check_name="accepted", passed=True, metadata=found_in(report))
    yield dg.MaterializeResult(
        asset_key=own,
        data_version=dg.DataVersion(taken.sha256),
        metadata={
            "dagster/row_count": report.accepted,
            "rows_read": report.read,
            "rows_quarantined": report.quarantined,
            "engine": settings.engine(),
            "files": len(taken.copies),
            "bytes": taken.size,
            "sha256": taken.sha256,
            "snapshot": dg.MetadataValue.path(str(taken.path)),
            "findings": dg.MetadataValue.md(report.as_markdown()),
            "sample": dg.MetadataValue.md(sample.to_markdown(index=False)),
        },
    )


@contextmanager
def _chosen_engine(connection: "DuckDBPyConnection", home: Path, snapshot: str) -> "Iterator[Engine | None]":
    """For the length of a block: what reads a source by VROOM_ENGINE; None is DuckDB."""
    with resources.spark_session() as session:
        if session is None:
            yield None
            return
        from vroom_assets.spark.sources import SparkEngine

        yield SparkEngine(connection, session, home, snapshot)


def found_in(report: "SourceReport") -> dict[str, Any]:
    """What an accepted file's check shows of it, and a refused one's."""
    return {"findings": dg.MetadataValue.md(report.as_markdown()), "quarantined": report.quarantined}


def description_of(column: Column) -> str:
    """What a column holds: its description, then its range and its unit in brackets."""
    limits = ", ".join(filter(None, (column.range, column.unit)))
    return " ".join(filter(None, (column.description, limits and f"({limits})")))


def column_schema(columns: Mapping[str, Column]) -> dg.TableSchema:
    """The declared columns as Dagster shows them on an asset's page."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                column.type.value,
                description=description_of(column),
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=column.unique),
            )
            for name, column in columns.items()
        ]
    )
