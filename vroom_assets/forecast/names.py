"""Keys, groups and tags that the assets and jobs of a forecast share."""

from typing import Any

import dagster as dg

from vroom_assets.spec import ForecastSpec


def key(spec: ForecastSpec, name: str) -> dg.AssetKey:
    return dg.AssetKey([spec.name, name])


def common(spec: ForecastSpec, *kinds: str) -> dict[str, Any]:
    """What every asset of a forecast carries."""
    return {
        "group_name": spec.name,
        "owners": [spec.owner],
        "kinds": set(kinds),
    }


FORECAST_TAG = "vroom/forecast"
CHALLENGER, CHAMPION = "challenger", "champion"
# Of a run that nobody watches the terminal shows what needs somebody; all of it is on the run's page.
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING", "name": "vroom"}}}}
