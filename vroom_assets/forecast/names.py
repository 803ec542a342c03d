"""Keys and tags that the assets and jobs of a forecast share."""

import dagster as dg

from vroom_assets.spec import ForecastSpec


def key(spec: ForecastSpec, name: str) -> dg.AssetKey:
    return dg.AssetKey([spec.name, name])


FORECAST_TAG = "vroom/forecast"
DATA_VERSION_TAG = "dagster/data_version"  # Dagster's own, of events that are not the result of an asset
REASON_TAG = "vroom/reason"
COMMAND_TAG, CALLER_TAG = "vroom/command", "vroom/caller"  # of a run that was asked for over HTTP
REQUESTED_TAG, TRAINED_TAG = "vroom/requested_version", "vroom/trained_version"
MONITOR_JOB = "monitor"  # as the job of a forecast ends; it is one of its runs, and makes no version
CHALLENGER, CHAMPION = "challenger", "champion"
FLEET_PREDICTIONS = "fleet_predictions"
ROLLED_BACK = "rolled_back"  # the kind of alert, open until another version is published
TRIAL_STOPPED = "trial_stopped"  # the kind of alert, open until something else serves or is tried
# Of a run that nobody watches the terminal shows what needs somebody; all of it is on the run's page.
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING", "name": "vroom"}}}}
