"""Spark's workers answer each row as one machine does, bit by bit."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import spark
from tests.support.bundles import FORECAST, NAMES, publish
from vroom_api.champion.loading import load
from vroom_api.contract import bundle_folder, read_bundle, read_pointer
from vroom_assets.scoring import reading, writing
from vroom_assets.spark import scoring, session

TARGET = "predicted_reservations"
COLUMNS = ("entity_id", TARGET, "low", "high")


@pytest.mark.slow
@spark.needed
def test_spark_answers_each_row_as_one_machine_does(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    rows = [[i % 2, 20 + i * 0.37, 25 + i * 0.11, i % 21, (i // 2) % 2, i * 7] for i in range(500)]
    named = {name: [float(row[at]) for row in rows] for at, name in enumerate(NAMES)}
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"entity_id": [str(at) for at in range(500)], **named}), path)
    champion, pointer = load(FORECAST, tmp_path), read_pointer(FORECAST, tmp_path)
    assert champion is not None
    assert pointer is not None
    writing.score(
        champion, reading.FileRows(path, champion.manifest.inputs), tmp_path / "local", lambda _: None
    )
    bundle = read_bundle(bundle_folder(FORECAST, 1, tmp_path), pointer.manifest_sha256)
    with session.session(spark.LOCAL) as connected:
        given = connected.read.parquet(path.as_uri())
        for _ in range(2):  # the second replaces the first
            scoring.score(scoring.Scorer(bundle, pointer), given, tmp_path / "spread")
        wrong = given.selectExpr("entity_id", *NAMES[:3], "-1.0D as num_images", *NAMES[4:]).limit(3)
        scoring.score(scoring.Scorer(bundle, pointer), wrong, tmp_path / "wrong")
    expected = pq.read_table(tmp_path / "local").select(COLUMNS).sort_by("entity_id")
    assert pq.read_table(tmp_path / "spread").select(COLUMNS).sort_by("entity_id").equals(expected)
    refused = pq.read_table(tmp_path / "wrong")
    assert refused[TARGET].null_count == 3
    assert all("num_images: -1.0 is not" in why for why in refused["refused"].to_pylist())
    assert [one.name for one in tmp_path.glob(".spread*")] == []
