"""The feature table: one row per entity with its inputs, features and target, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd

from vroom_api.contract import durable, forecast_folder
from vroom_assets.features import examples
from vroom_assets.features.engine import DataError, Engine, Tables
from vroom_assets.features.expressions import Feature, select_sql
from vroom_assets.spec import ONE_CLASS, OTHER, Column, ColumnType, ForecastSpec
from vroom_assets.sql import literal, transaction
from vroom_assets.training.folds import RowStructure

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


CHUNK_VECTORS = 50  # of 2,048 rows, read at once


class DatasetError(Exception):
    """The tables do not yield a feature table; the message names the rule and the rows."""


@dataclass(frozen=True)
class Dataset:
    """The feature table of one data version.

    keys (rows,), inputs and features (rows, ·) as float64 frames, target (rows,), ordered by key. An input is
    NaN where it was left out, of a text its index among the declared values, and of a time seconds since 1970.
    """

    forecast: str
    keys: np.ndarray
    inputs: pd.DataFrame
    features: pd.DataFrame
    target: np.ndarray
    row_structure: RowStructure  # groups and times of the rows, where the declaration names them
    data_version: str
    data_as_of: str
    snapshots: dict[str, str]
    tags: pd.DataFrame = field(default_factory=pd.DataFrame)  # (rows, tags), texts
    levels: dict[str, list[str]] = field(
        default_factory=dict
    )  # of the inputs that are categories, in their order

    def take(self, rows: np.ndarray) -> Dataset:
        """Some of the rows, by their numbers."""
        return replace(
            self,
            keys=self.keys[rows],
            inputs=self.inputs.iloc[rows],
            features=self.features.iloc[rows],
            target=self.target[rows],
            row_structure=self.row_structure.take(rows),
            tags=self.tags.iloc[rows],
        )


def note_origin(connection: DuckDBPyConnection, table: str, detail: dict[str, Any]) -> None:
    """Record what a table was made from, in the same file as the table."""
    connection.execute("create table if not exists origin (name varchar primary key, detail varchar)")
    connection.execute("insert or replace into origin values (?, ?)", [table, json.dumps(detail)])


def origin(connection: DuckDBPyConnection, table: str) -> dict[str, Any]:
    """What a table was made from.

    Raises:
        DatasetError: the table is not there yet.
    """
    known = connection.execute("select 1 from duckdb_tables() where table_name = 'origin'").fetchall()
    rows = known and connection.execute("select detail from origin where name = ?", [table]).fetchall()
    if not rows:
        raise DatasetError(f"table {table!r} is not there yet: materialize the asset of that name first")
    return json.loads(rows[0][0])


def build(connection: DuckDBPyConnection, spec: ForecastSpec, engine: Engine | None = None) -> None:
    """Replace the feature table of the warehouse, in one transaction, from the checked tables.

    Args:
        engine: what computes instead of the warehouse, from the same tables.

    Raises:
        DatasetError: examples break their declaration or look ahead, the target has no or several rows for an entity, or a feature or target is not finite.
    """
    snapshots = {name: origin(connection, name)["snapshot"] for name in spec.sources}
    try:
        with examples.tables(engine or connection, spec):
            _replace_features(connection, engine, spec, snapshots)
    except examples.ExamplesError as error:
        raise DatasetError(str(error)) from error


def _replace_features(
    connection: DuckDBPyConnection, engine: Engine | None, declared: ForecastSpec, snapshots: dict[str, str]
) -> None:
    tables = engine or connection
    with transaction(connection):
        levels = _learn_levels(tables, declared)
        spec = declared.with_levels(levels)
        try:
            _compute(tables, spec, spec.features)
        except (duckdb.DataError, DataError) as error:
            raise DatasetError(
                f"target.sql or features.sql cannot be computed: {str(error).splitlines()[0]}; a forecast is of a number, "
                "or of 1 for one of several values and 0 for the others"
            ) from error
        _refuse_bad_rows(tables, spec, spec.features)
        tables.execute("create or replace table features as from computed where target is not null")
        _refuse_few_rows(tables, spec)
        if engine is not None:
            engine.hand_over("features", "entity_key", connection)
        note_origin(
            connection,
            "features",
            {
                "data_version": spec.data_version(snapshots),
                "data_as_of": _as_of(connection, tables, spec),
                "snapshots": snapshots,
                "levels": levels,
            },
        )
        tables.execute("drop table computed")


def _as_of(connection: DuckDBPyConnection, tables: Tables, spec: ForecastSpec) -> str:
    """The time of the data, ISO 8601: of the latest event, or of the newest file where no column says it."""
    if spec.target.as_of is None:
        return str(max(origin(connection, name)["modified"] for name in spec.sources))
    source, _, column = spec.target.as_of.partition(".")
    [(as_of,)] = tables.execute(f'select max("{column}") from "{source}"').fetchall()
    return as_of.isoformat() if as_of else ""


def _learn_levels(tables: Tables, spec: ForecastSpec) -> dict[str, list[str]]:
    """The values of each category that enough rows have, by name, and what stands for all others."""
    return {
        name: [
            *(
                value
                for (value,) in tables.execute(
                    f'''
                    select "{name}" from "{spec.entity.source}" where "{name}" is not null and "{name}" <> '{OTHER}'
                    group by 1 having count(*) >= {column.least_rows} order by 1
                    '''
                ).fetchall()
            ),
            OTHER,
        ]
        for name, column in spec.input_columns.items()
        if column.is_category
    }


def _compute(tables: Tables, spec: ForecastSpec, features: Sequence[Feature]) -> None:
    """Temporary table: key, group, times, inputs, features and target of every entity, in order of the keys."""
    key = spec.entity.key
    kept = {"entity_group": spec.validation.group, "entity_time": spec.validation.order}
    kept = {name: column for name, column in kept.items() if column is not None}
    kept |= {f"tag_{name}": name for name in spec.entity.tags}
    # Of an example the target may not be known yet, or never come; an entity of a source has one.
    join = "inner" if spec.entity.source in spec.examples else "left"
    known = f', target."{spec.target.known_at}"::timestamp as target_known' if spec.target.known_at else ""
    tables.execute(
        f"""
        create or replace temp table computed as
        with inputs as (
            select "{key}" as entity_key,
                {"".join(f'"{column}" as {name}, ' for name, column in kept.items())}
                {", ".join(encoded(name, column) for name, column in spec.input_columns.items())}
            from "{spec.entity.source}"
        ),
        target as ({_statement(spec.target_sql)}
        )
        select
            entities.entity_key,
            {"".join(f"entities.{name}, " for name in kept)}
            {", ".join(f'entities."{name}" as "input_{name}"' for name in spec.inputs)},
            {", ".join(f'entities."feature_{feature.name}"' for feature in features)},
            target."{spec.target.name}"::double as target, target."{key}" is not null as is_known{known}
        from ({select_sql(features, "inputs", keep=["entity_key", *kept, *spec.inputs], prefix="feature_")}) as entities
        {join} join target on target."{key}" = entities.entity_key
        order by entities.entity_key
        """
    )


def encoded(name: str, column: Column) -> str:
    """The SQL of an input as a number: itself, the seconds of a time, or its index among the levels of a text; a rare
    category is the last."""
    if column.is_time:
        return f'epoch("{name}") as "{name}"'
    if column.type.stored is not ColumnType.TEXT:
        return f'"{name}"::double as "{name}"'
    if column.is_category:
        listed = ", ".join(literal(value) for value in column.levels[:-1])
        rest = float(len(column.levels) - 1)
        index = f'list_position([{listed}]::varchar[], "{name}") - 1'
        return f'case when "{name}" is not null then coalesce({index}, {rest})::double end as "{name}"'
    positions = " ".join(
        f"when '{value.replace(chr(39), chr(39) * 2)}' then {position}"
        for position, value in enumerate(column.levels)
    )
    return f'(case "{name}" {positions} end)::double as "{name}"'


def _refuse_bad_rows(tables: Tables, spec: ForecastSpec, features: Sequence[Feature]) -> None:
    entity = spec.entity.name
    twice = tables.execute(
        "select entity_key, count(*) from computed group by 1 having count(*) > 1 order by 1 limit 3"
    ).fetchall()
    if twice:
        raise DatasetError(f"target.sql gives several rows for one {entity}: {twice[0][0]}; group by its key")
    if spec.target.known_at and spec.validation.order:
        [(early,)] = tables.execute(
            "select count(*) from computed "
            "where target is not null and (target_known is null or target_known <= entity_time)"
        ).fetchall()
        if early:
            raise DatasetError(
                f"target.sql, column {spec.target.known_at}: empty or not after {spec.validation.order} "
                f"in {early} rows; a target becomes known later than what it is forecast from"
            )
    # A feature is missing where an input is that it needs; nothing else makes one so.
    optional = {name for name, column in spec.input_columns.items() if column.nullable}
    left_out = {f"feature_{feature.name}": sorted(feature.unguarded & optional) for feature in features}
    without = tables.execute(
        "select entity_key from computed where not is_known order by 1 limit 3"
    ).fetchall()
    if without:
        raise DatasetError(
            f"target.sql gives no row for {entity} {', '.join(str(row[0]) for row in without)}; give it one, with NULL "
            "where the target is not known yet"
        )
    rules = {
        f"feature_{feature.name}": f"feature {feature.name} ({feature.expression}) is not finite"
        for feature in features
    }
    for column, message in rules.items():
        missing = " or ".join(f'"input_{name}" is null' for name in left_out.get(column, ()))
        bad = tables.execute(
            f'select entity_key from computed where ("{column}" is null and not ({missing or "false"})) '
            f'or not isfinite("{column}") order by 1 limit 3'
        ).fetchall()
        if bad:
            raise DatasetError(f"{message} for {entity} {', '.join(str(row[0]) for row in bad)}")
    endless = tables.execute(
        "select entity_key from computed where not isfinite(target) order by 1 limit 3"
    ).fetchall()
    if endless:
        raise DatasetError(
            f"target.sql gives no finite target for {entity} {', '.join(str(row[0]) for row in endless)}"
        )
    if spec.target.kind.is_probability:
        other = tables.execute(
            "select entity_key, target from computed where target not in (0, 1) limit 1"
        ).fetchall()
        if other:
            raise DatasetError(
                f"target.sql: {other[0][1]:g} for {entity} {other[0][0]}; yes is 1 and no is 0, and {ONE_CLASS}: write "
                f"`(… = {other[0][1]:g})::integer as {spec.target.name}`"
            )


def _refuse_few_rows(tables: Tables, spec: ForecastSpec) -> None:
    [(rows,)] = tables.execute("select count(*) from features").fetchall()
    needed = spec.validation.folds * 2
    if rows < needed:
        raise DatasetError(
            f"{rows} entities with a target are too few for {spec.validation.folds} folds; {needed} are needed"
        )


def read(connection: DuckDBPyConnection, spec: ForecastSpec) -> Dataset:
    """The feature table as arrays, with its origin."""
    made_from = origin(connection, "features")
    if not is_declared(made_from["data_version"], spec, made_from["snapshots"]):
        raise DatasetError("the features were computed by an older declaration: materialize `features` again")
    inputs, features = spec.inputs, [feature.name for feature in spec.features]
    table = _Columns.read(
        connection, [f"input_{name}" for name in inputs], [f"feature_{name}" for name in features]
    )
    return Dataset(
        forecast=spec.name,
        keys=table.others["entity_key"].to_numpy(),
        inputs=pd.DataFrame(table.blocks[0], columns=inputs),
        features=pd.DataFrame(table.blocks[1], columns=features),
        target=table.others["target"].to_numpy(dtype=float),
        row_structure=RowStructure(
            len(table.others),
            *(
                table.others[name].to_numpy() if name in table.others else None
                for name in ("entity_group", "entity_time", "target_known")
            ),
        ),
        data_version=made_from["data_version"],
        data_as_of=made_from["data_as_of"],
        snapshots=made_from["snapshots"],
        levels=made_from.get("levels", {}),
        tags=table.others[[f"tag_{name}" for name in spec.entity.tags]].set_axis(spec.entity.tags, axis=1),
    )


class _Columns(NamedTuple):
    """The feature table, in order of the keys. blocks: float64, shape (rows, names) each; others: the rest of its columns."""

    blocks: list[np.ndarray]
    others: pd.DataFrame

    @classmethod
    def read(cls, connection: DuckDBPyConnection, *names: list[str]) -> _Columns:
        """Read piece by piece into arrays that are there already, so that no column is in memory twice.

        The table was written in the order of its keys and is read as it was written: to sort it again takes longer than
        all else here, and more the more rows there are. Where a piece is out of order it is sorted after all.
        """
        [(rows,)] = connection.execute("select count(*) from features").fetchall()
        table = cls([np.empty((rows, len(block))) for block in names], pd.DataFrame())
        for query in ("from features", "from features order by entity_key"):
            others = table._filled(connection, query, names)
            if others is not None:
                return table._replace(others=others)
        raise DatasetError("the table of features cannot be sorted by its keys: materialize `features` again")

    def _filled(
        self, connection: DuckDBPyConnection, query: str, names: Sequence[list[str]]
    ) -> pd.DataFrame | None:
        """Fill the blocks; the other columns, or None where the keys of the rows do not ascend."""
        listed = [column for block in names for column in block]
        result: Any = connection.execute(query)
        others: list[pd.DataFrame] = []
        done = 0
        while len(piece := result.fetch_df_chunk(CHUNK_VECTORS)):
            for block, columns in zip(self.blocks, names, strict=True):
                block[done : done + len(piece)] = piece[columns].to_numpy(dtype=np.float64)
            rest = piece.drop(columns=listed)
            before = others[-1]["entity_key"].iloc[-1:] if others else rest["entity_key"].iloc[:0]
            if not pd.concat([before, rest["entity_key"]]).is_monotonic_increasing:
                return None
            others.append(rest)
            done += len(piece)
        return pd.concat(others, ignore_index=True)


def count_without_target(connection: DuckDBPyConnection, spec: ForecastSpec, rows: int) -> int:
    """How many entities of a source are only to be forecast; of examples none are kept."""
    if spec.entity.source not in spec.sources:
        return 0
    [(entities,)] = connection.execute(f'select count(*) from "{spec.entity.source}"').fetchall()
    return int(entities) - rows


def is_declared(data_version: str, spec: ForecastSpec, snapshots: dict[str, str]) -> bool:
    """Whether a data version is that of these snapshots by the declaration as it is now."""
    return data_version in (spec.data_version(snapshots), spec.former_data_version(snapshots))


def recompute(
    connection: DuckDBPyConnection, inputs: pd.DataFrame, features: Sequence[Feature]
) -> pd.DataFrame:
    """Features of the given inputs by other definitions than the declared ones, rows in order."""
    numbered = inputs.assign(entity_key=np.arange(len(inputs)))
    connection.register("given_inputs", numbered)
    try:
        statement = select_sql(features, "given_inputs", keep=["entity_key"], prefix="")
        return connection.execute(f"from ({statement}) order by entity_key").df().drop(columns="entity_key")
    finally:
        connection.unregister("given_inputs")


def parquet_path(forecast: str, data_version: str) -> Path:
    """Where the feature table of one data version is published."""
    return forecast_folder(forecast) / "features" / f"{data_version}.parquet"


def keys_of(connection: DuckDBPyConnection, forecast: str, data_version: str) -> np.ndarray | None:
    """The entities of an earlier data version, None if its table is no longer kept."""
    path = parquet_path(forecast, data_version)
    if not path.exists():
        return None
    return (
        connection.execute("select entity_key from read_parquet(?)", [str(path)])
        .df()["entity_key"]
        .to_numpy()
    )


def write_parquet(connection: DuckDBPyConnection, forecast: str, data_version: str) -> Path:
    """Publish the feature table of one data version as a file that any number of readers may open."""
    path = parquet_path(forecast, data_version)
    with durable.replaced(path) as beside:
        connection.execute(
            f"copy (from features order by entity_key) to {literal(str(beside))} (format parquet, compression zstd)"
        )
    return path


def _statement(sql: str) -> str:
    return sql.strip().rstrip(";")
