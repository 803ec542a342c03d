"""A time as an input: sent as text, seen by the model as numbers, recorded and explained as text."""

import random
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.support.commands import trained_and_served

DEFS = """
type: vroom_assets.forecast.Forecast
attributes:
  name: tours
  title: Tours
  description: How many guests come to a tour.
  owner: team:example
  sources:
    tours:
      path: tours/tours.csv
      description: Tours.
      columns:
        tour: {type: text, unique: true}
        starts: {type: timestamp, earliest: 2020-01-01, description: when it starts}
        booked: {type: date, nullable: true}
        guests: {type: integer, minimum: 0}
  entity: {name: tour, source: tours, key: tour}
  inputs: [starts, booked]
  target: {name: guests, kind: count, unit: guests, horizon: the tour}
  validation: {folds: 3, repeats: 1, inner_folds: 2}
  candidates:
    linear: {family: poisson_glm, features: [hour, is_weekend, days_ahead], parameters: {alpha: 0.01}}
"""
FEATURES = """
select
    hour(starts) as hour,
    case when isodow(starts) >= 6 then 1 else 0 end as is_weekend,
    date_diff('day', booked, starts) as days_ahead
from inputs
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    folder = tmp_path_factory.mktemp("tours")
    write(folder)
    with trained_and_served(folder, "tours", record=True) as client:
        yield client


def write(folder: Path) -> None:
    rng = random.Random(5)
    rows = ["tour,starts,booked,guests"]
    for number in range(240):
        starts = datetime(2024, 1, 1, 8) + timedelta(days=number, hours=number % 10)
        ahead = rng.randrange(30)
        booked = f"{starts - timedelta(days=ahead):%Y-%m-%d}" if number % 9 else ""
        guests = starts.hour // 3 + 4 * (starts.isoweekday() >= 6) + rng.randrange(3)
        rows.append(f"t{number},{starts.isoformat()},{booked},{guests}")
    (folder / "data" / "tours").mkdir(parents=True)
    (folder / "data" / "tours" / "tours.csv").write_text("\n".join(rows) + "\n")
    (folder / "defs" / "tours").mkdir(parents=True)
    (folder / "defs" / "tours" / "defs.yaml").write_text(DEFS)
    (folder / "defs" / "tours" / "features.sql").write_text(FEATURES)
    (folder / "defs" / "tours" / "target.sql").write_text("select tour, guests from tours")


def predicted(client: TestClient[Any], **inputs: Any) -> dict[str, Any]:
    answer = client.post("/predict", json=inputs)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_time_however_it_is_written_means_what_it_means_in_the_source(client):
    weekend = predicted(client, starts="2024-05-04T15:00:00", booked="2024-05-01")
    monday = predicted(client, starts="2024-05-06T15:00:00", booked="2024-05-03")
    assert weekend["predicted_guests"] > monday["predicted_guests"] + 2
    for same in ("2024-05-04 15:00", "2024-05-04T15:00Z", "2024-05-04T17:00:00+02:00"):
        again = predicted(client, starts=same, booked="2024-05-01T23:59")
        assert again["predicted_guests"] == weekend["predicted_guests"]
    without = predicted(client, starts="2024-05-04T15:00:00")
    assert without["predicted_guests"] == pytest.approx(weekend["predicted_guests"], rel=0.5)


def test_a_time_to_come_is_in_support_where_what_is_made_of_it_is(client):
    assert predicted(client, starts="2031-05-03T15:00", booked="2031-05-01")["in_support"]
    at_night = predicted(client, starts="2031-05-03T23:00", booked="2031-05-01")
    assert [one["field"] for one in at_night["outside"]] == ["hour"]
    assert at_night["outside"][0]["sentence"] == "hour = HOUR(starts), 23: seen in training 8 to 17"


def test_what_is_no_time_is_refused_with_how_to_write_one(client):
    for sent, message in {
        "soon": 'starts: "soon" is not a time such as 2023-07-27T14:58:26, at or after 2020-01-01T00:00:00',
        "2023-02-29": 'starts: "2023-02-29" is not a time such as 2023-07-27T14:58:26',
        "2019-12-31T23:59:59": 'starts: "2019-12-31T23:59:59" is not a time such as',
        1714834800: "starts: 1714834800 is not a time such as",
        None: "starts: null is not a time such as",
    }.items():
        refused = client.post("/predict", json={"starts": sent, "booked": None})
        assert refused.status_code == 422
        assert message in refused.json()["detail"]
    batch = [{"starts": "2024-05-04T15:00"}, {"starts": "2024-05-04T15:00", "booked": "2023-02-29"}]
    refused = client.post("/predict/batch", json=batch)
    assert refused.status_code == 422
    fault = refused.json()["errors"][0]
    assert (fault["row"], fault["field"]) == (1, "booked")
    assert fault["detail"].startswith('row 1: booked: "2023-02-29" is not a time such as')


def test_it_is_recorded_as_text_and_scored_again(client):
    answer = predicted(client, starts="2024-05-04T17:00:00+02:00")
    lineage = client.get(f"/predictions/{answer['prediction_id']}").json()
    assert lineage["prediction"]["inputs"] == {"starts": "2024-05-04T15:00:00", "booked": None}
    assert lineage["prediction"]["features"] == {"hour": 15, "is_weekend": 1, "days_ahead": None}
    assert lineage["verified"]


def test_reasons_name_it_as_text(client):
    reasons = predicted(client, starts="2024-05-04T15:00:00", booked="2024-05-01", explain=True)["reasons"]
    [together] = reasons[
        "reasons"
    ]  # a feature compares them: each with that of another row would mean nothing
    assert (together["input"], together["value"]) == (
        "starts, booked",
        "2024-05-04T15:00:00, 2024-05-01T00:00:00",
    )
    assert together["sentence"].startswith(
        "starts 2024-05-04T15:00:00 (when it starts) and booked 2024-05-01T00:00:00: +"
    )
    assert reasons["baseline"] + together["amount"] == pytest.approx(reasons["prediction"])


def test_what_is_stored_of_an_entity_fills_it(client):
    stored = predicted(client, entity_id="t5")
    assert stored["stored"]["inputs"] == ["starts", "booked"]
    again = predicted(client, starts="2024-01-06T13:00:00", entity_id="t5")
    assert again["predicted_guests"] == stored["predicted_guests"]


def test_the_reference_describes_it(client):
    field = next(one for one in client.get("/model").json()["inputs"] if one["name"] == "starts")
    assert field["type"] == "time"
    schema = client.get("/schema/openapi.json").json()["components"]["schemas"]
    request = schema["Request"]
    starts = request["properties"]["starts"]
    assert starts["type"] == "string"
    assert starts["description"] == "when it starts; ISO 8601"
    assert re.search(starts["pattern"], request["examples"][0]["starts"])
