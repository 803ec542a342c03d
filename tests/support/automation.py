"""A forecast's sensor, ticked by hand."""

import json

import dagster as dg

from tests.support.forecasts import definitions
from vroom_assets.forecast import Forecast


class Sensor:
    """The real sensor on a real instance, with the daemon's bookkeeping of cursors and run keys."""

    def __init__(self, instance: dg.DagsterInstance, spec: Forecast):
        self.instance = instance
        self.definitions = definitions(spec)
        self.sensor = self.definitions.resolve_sensor_def(f"{spec.name}_sources")
        self.cursor: str | None = None
        self.run_keys: set[str] = set()

    def tick(self) -> str:
        """One tick: the reason of a skip, or the run that is asked for and never was: `run` of everything, or its assets."""
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.definitions
        ) as context:
            result = self.sensor.evaluate_tick(context)
        self.cursor = result.cursor
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        if not result.run_requests:
            assert result.skip_message
            return result.skip_message
        (request,) = result.run_requests
        assert request.run_key is not None
        assert request.run_key not in self.run_keys, "Dagster would drop this request for ever"
        self.run_keys.add(request.run_key)
        chosen = request.asset_selection
        return "+".join(asset.path[-1] for asset in chosen) if chosen else "run"

    def settle(self) -> list[str]:
        """Ticks until nothing more happens."""
        return [self.tick() for _ in range(4)]

    def under(self, spec: Forecast) -> "Sensor":
        """The same sensor after the definitions were loaded again from another declaration."""
        later = Sensor(self.instance, spec)
        later.cursor, later.run_keys = self.cursor, self.run_keys
        return later

    def later(self, seconds: float) -> "Sensor":
        """The same sensor when so much time has gone by since its latest request."""
        cursor = json.loads(self.cursor or "")
        self.cursor = json.dumps(cursor | {"asked_at": cursor["asked_at"] - seconds})
        return self

    def observed(self) -> list[str]:
        records = self.instance.fetch_observations(
            dg.AssetKey(["reservations", "vehicles_csv"]), limit=100
        ).records
        observations = [record.asset_observation for record in records]
        return [one.tags["dagster/data_version"] for one in observations if one]
