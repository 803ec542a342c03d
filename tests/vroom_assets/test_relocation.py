"""What a database of MLflow says of artifacts, after its home was moved."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vroom_assets.relocation import ADDRESSES, relocate

THERE, HERE = "file:///a/home/mlflow/artifacts", "file:///a/home/b%20c/home/mlflow/artifacts"
ELSEWHERE = [
    "s3://bucket/vans",
    "mlflow-artifacts:/3",
    "models:/m-1",
    "file:///a/home/mlflow/artifacts_of_others/1",
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """As MLflow writes it: addresses below a former home, and such that are none of its."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, columns in ADDRESSES.items():
            connection.execute(f"create table {table} (name, {', '.join(columns)})")
            for address in (f"{THERE}/vans", *ELSEWHERE, None):
                values = ["vans", *([address] * len(columns))]
                connection.execute(f"insert into {table} values ({', '.join('?' * len(values))})", values)
    return path


def addresses(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            f"{table}.{column}": [row[0] for row in connection.execute(f"select {column} from {table}")]
            for table, columns in ADDRESSES.items()
            for column in columns
        }


def test_addresses_below_the_former_home_follow_it_and_no_others(database):
    assert relocate(database, HERE) == [THERE]
    assert all(found == [f"{HERE}/vans", *ELSEWHERE, None] for found in addresses(database).values())


def test_a_second_time_changes_nothing_though_the_new_home_lies_in_the_former(database):
    relocate(database, HERE)
    before = addresses(database)
    assert relocate(database, HERE) == []
    assert addresses(database) == before
    assert relocate(database, THERE) == [HERE]


def test_what_another_place_decided_stays(tmp_path, database):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update experiments set artifact_location = ?", (ELSEWHERE[0],))
    before = addresses(database)
    assert relocate(database, HERE) == []
    assert addresses(database) == before
    assert relocate(tmp_path / "none.db", HERE) == []
    assert not (tmp_path / "none.db").exists()
