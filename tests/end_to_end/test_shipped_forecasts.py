"""A shipped forecast beside the flagship: trained from its CSVs while the service runs, then asked by name."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import EXAMPLE, publish
from tests.api.test_champion import wait_for
from tests.api.test_service import environment, running
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

NAME = "market_resolution"  # of the shipped ones that with texts, inputs that may be left out, a probability


def test_a_shipped_forecast_is_served_as_soon_as_it_is_trained(tmp_path: Path) -> None:
    home = tmp_path / "var"
    publish(home, 1)
    with running(home) as (address, _), httpx.Client(base_url=address) as client:
        assert client.get(f"/forecasts/{NAME}").status_code == 404
        trained = subprocess.run(
            [sys.executable, "-m", "vroom_assets", "materialize"],
            cwd=ROOT,
            env=environment(home, FORECAST=NAME, DATA=ROOT / "data"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert trained.returncode == 0, trained.stdout + trained.stderr
        wait_for(lambda: client.get(f"/forecasts/{NAME}").status_code == 200)
        wait_for(lambda: client.get(f"/forecasts/{NAME}").json()["status"] == "ok")
        example = client.get(f"/forecasts/{NAME}").json()["example"]
        answer = client.post(f"/forecasts/{NAME}/predict", json=example)
        assert answer.status_code == 200
        found = answer.json()
        assert (
            0 <= found["interval"]["low"] <= found["predicted_resolved_yes"] <= found["interval"]["high"] <= 1
        )
        required = {"category", "price", "spread", "days_left", "days_open"}
        sparse = {name: value for name, value in example.items() if name in required}
        both = client.post(f"/forecasts/{NAME}/predict/batch", json=[example, sparse])
        assert both.json()[0]["predicted_resolved_yes"] == pytest.approx(found["predicted_resolved_yes"])
        explained = client.post(f"/forecasts/{NAME}/predict", json=example | {"explain": True})
        assert explained.json()["reasons"]["prediction"] == pytest.approx(found["predicted_resolved_yes"])
        assert client.get(f"/predictions/{found['prediction_id']}").json()["verified"]
        outcome = {"forecast": NAME, "prediction_id": found["prediction_id"], "value": 1}
        assert client.post("/outcomes", json=outcome).json()["recorded"] == 1
        assert client.post("/predict", json=EXAMPLE).status_code == 200
