"""What is stored of each entity for the service, and the fallback for those without a history."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.forecasts import contradictions_of, shipped
from tests.support.project import ROOT
from vroom_api.champion.stored_inputs import Entities
from vroom_api.contract import forecast_folder
from vroom_assets.challenger.manifest import golden_rows, input_fields
from vroom_assets.challenger.parity import exportable
from vroom_assets.features import online
from vroom_assets.features.table import DatasetError, build, note_origin, read

START = datetime(2023, 1, 1)
declared = partial(shipped, "upcoming_reservations")


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    """Sixty vehicles, the last listed lately, and a year of reservations."""
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    draw = np.random.default_rng(3)
    with duckdb.connect() as connection:
        connection.execute(
            "create table vehicles as select i as vehicle_id, i % 2 as technology, 60.0 + i as actual_price, "
            "50.0 + i % 7 as recommended_price, 1 + i % 5 as num_images, "
            "case when i = 60 then timestamp '2023-12-20' else timestamp '2022-12-31' end as listed_at "
            "from range(1, 61) as rows(i)"
        )
        connection.execute(
            "create table reservations (vehicle_id bigint, created_at timestamp, loaded_at timestamp)"
        )
        days = [(int(draw.integers(1, 60)), float(draw.uniform(0, 365))) for _ in range(600)]
        moments = [(vehicle, START + timedelta(days=day)) for vehicle, day in [*days, (1, 0.0), (1, 364.9)]]
        connection.executemany("insert into reservations values (?, ?, ?)", [(v, t, t) for v, t in moments])
        for name in ("vehicles", "reservations"):
            note_origin(connection, name, {"snapshot": name})
        build(connection, declared())
        yield connection


def test_each_entity_is_stored_as_it_is_now(warehouse):
    assert online.store(warehouse, declared()).count == 60
    entities = Entities("upcoming_reservations")
    [(now,)] = warehouse.execute("select max(created_at) from reservations").fetchall()
    for vehicle in (1, 17, 60):
        found = entities.find(str(vehicle))
        assert found is not None
        assert datetime.fromisoformat(found.as_of) == now.replace(microsecond=0)
        assert list(found.values) == declared().inputs
        [(so_far, last)] = warehouse.execute(
            "select count(*), count(*) filter (created_at > ? - interval 90 day) from reservations "
            "where vehicle_id = ?",
            [now, vehicle],
        ).fetchall()
        assert found.values["reservations_so_far"] == so_far
        assert found.values["reservations_last_90"] == last
        assert found.values["actual_price"] == 60.0 + vehicle
    young = entities.find("60")
    assert young is not None
    assert 10 < young.values["days_listed"] < 12
    assert entities.find("61") is None


def test_examples_of_every_event_are_stored_by_their_latest(tmp_path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    spec = shipped("lap_times")
    with duckdb.connect() as connection:
        csv = ROOT / "data" / spec.sources["laps"].path
        connection.execute(f"create table laps as from read_csv('{csv}')")
        note_origin(connection, "laps", {"snapshot": "laps"})
        build(connection, spec)
        count = online.store(connection, spec).count
        drivers = connection.execute("select distinct driver from laps order by 1").fetchall()
        assert count == len(drivers)
        for (driver,) in drivers:
            [(lap, time)] = connection.execute(
                # the last of three laps in a row that were driven through
                "with runs as (select *, pit_in + pit_out + safety_car = 0 as through from laps where driver = ?) "
                "select now.lap, now.lap_time from runs as now join runs as b on (b.season, b.circuit, b.session, "
                "b.stint, b.lap + 1) = (now.season, now.circuit, now.session, now.stint, now.lap) join runs as c on "
                "(c.season, c.circuit, c.session, c.stint, c.lap + 2) = (now.season, now.circuit, now.session, "
                "now.stint, now.lap) where now.through and b.through and c.through "
                "and greatest(b.loaded_at, c.loaded_at) <= now.loaded_at order by now.loaded_at desc limit 1",
                [driver],
            ).fetchall()
            found = Entities("lap_times").find(driver)
            assert found is not None
            assert (found.values["lap"], found.values["last_lap"]) == (lap, time)


def test_texts_and_gaps_are_stored_as_a_caller_would_send_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    spec = shipped("market_resolution")
    with duckdb.connect() as connection:
        data = ROOT / "data" / "market_resolution"
        for name in spec.sources:
            connection.execute(
                f"create table {name} as from read_csv('{data / name}.csv', all_varchar=false)"
            )
            note_origin(connection, name, {"snapshot": name})
        build(connection, spec)
        assert online.store(connection, spec).count == 100
        [(market,)] = connection.execute(
            "select market_id from markets where resolved_at is null order by 1 limit 1"
        ).fetchall()
    found = Entities("market_resolution").find(str(market))
    assert found is not None
    assert found.values["category"] in spec.input_columns["category"].values
    assert isinstance(found.values["price"], float)


def test_what_fails_leaves_the_stored_inputs_as_they_were(warehouse):
    online.store(warehouse, declared())
    before = (forecast_folder("upcoming_reservations") / "entities.db").read_bytes()
    warehouse.execute("update vehicles set actual_price = -1 where vehicle_id = 9")
    with pytest.raises(DatasetError, match=r"column actual_price: -1\.0 is not > 0"):
        online.store(warehouse, declared())
    folder = forecast_folder("upcoming_reservations")
    assert (folder / "entities.db").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["entities.db"]


# The fallback


def test_the_graph_answers_gaps_as_the_fallback_alone_would(warehouse):
    spec = declared()
    data = read(warehouse, spec)
    kept, refused = exportable(spec, data)
    assert not refused
    golden = golden_rows(data, kept["boosting"], spec.features, 1e-6)
    gaps = [row for row in golden.inputs if None in row]
    assert len(gaps) >= 5
    assert all(row[-3:] == [None] * 3 for row in gaps)
    positions = [number for number, row in enumerate(golden.inputs) if None in row]
    other = kept["listing_only"].fitted.predict(data.features)
    for position in positions:
        # The listing alone decides: any row with these listing inputs has this prediction.
        alike = (data.inputs.iloc[:, :4].to_numpy() == np.array(golden.inputs[position][:4])).all(axis=1)
        assert golden.predictions[position] == pytest.approx(other[alike][0])


@given(
    gaps=st.sets(st.sampled_from(["days_listed", "reservations_so_far", "reservations_last_90"])),
    price=st.floats(1, 10_000),
    usual=st.floats(1, 10_000),
    images=st.integers(0, 100),
    days=st.floats(0, 36_500),
    count=st.integers(0, 100_000),
)
@settings(max_examples=50)
def test_any_gap_gives_the_fallback_and_none_the_champion(exported, gaps, price, usual, images, days, count):
    session, features, listing, history, spec = exported
    whole = [1.0, price, usual, float(images), days, float(count), float(min(count, 9))]
    row = [np.nan if name in gaps else value for name, value in zip(spec.inputs, whole, strict=True)]
    from vroom_assets.features.table import recompute

    with duckdb.connect() as connection:
        import pandas as pd

        frame = recompute(connection, pd.DataFrame([whole], columns=spec.inputs), features)
    expected = (listing if gaps else history).predict(frame)
    [found], _ = session.run(["prediction", "features"], {"inputs": np.array([row])})
    assert found == pytest.approx(expected[0], rel=1e-6)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The served graph of `history`, with its fallback, and both models."""
    import onnxruntime
    import pandas as pd

    from vroom_assets.challenger.onnx_graph import FallbackModel
    from vroom_assets.challenger.onnx_graph import build as draw
    from vroom_assets.features.table import recompute
    from vroom_assets.training.fitting import fit_all

    spec = declared()
    features = spec.features
    rng = np.random.default_rng(5)
    inputs = pd.DataFrame(
        {
            "technology": rng.integers(0, 2, 400).astype(float),
            "actual_price": rng.uniform(20, 200, 400),
            "recommended_price": rng.uniform(20, 200, 400),
            "num_images": rng.integers(0, 20, 400).astype(float),
            "days_listed": rng.uniform(0, 700, 400),
            "reservations_so_far": rng.poisson(6, 400).astype(float),
            "reservations_last_90": rng.poisson(2, 400).astype(float),
        }
    )
    with duckdb.connect() as connection:
        frame = recompute(connection, inputs, features)
    models = fit_all(spec.candidates, frame, rng.poisson(2, 400).astype(float), 1)
    other = FallbackModel(spec.fallback.without, models["listing_only"])
    graph = draw(spec.inputs, features, models["history"], other).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session, features, models["listing_only"], models["history"], spec


def test_the_inputs_it_does_without_may_be_left_out_and_count_as_seen(warehouse):
    data = read(warehouse, declared())
    fields = {field.name: field for field in input_fields(declared(), data.inputs)}
    assert [name for name, field in fields.items() if field.nullable] == declared().fallback.without
    assert [name for name, field in fields.items() if field.seen_missing] == declared().fallback.without


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ({"candidate": "none", "without": ["days_listed"]}, "fallback.candidate: 'none' is not declared"),
        ({"candidate": "listing_only", "without": ["age"]}, "fallback.without: 'age' is not declared"),
    ],
)
def test_a_fallback_of_what_is_not_declared_is_refused(fallback, message):
    assert message in contradictions_of(declared(fallback={"description": "new"} | fallback))


def test_a_fallback_without_nothing_is_refused():
    with pytest.raises(ValidationError, match="at least 1 item"):
        declared(fallback={"description": "new", "candidate": "listing_only", "without": []})
