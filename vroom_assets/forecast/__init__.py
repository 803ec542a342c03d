"""Everything of Dagster's: a declaration in; assets, checks, jobs, sensors and a schedule out.

The assets are thin. What they do is in the folder they call: sources, features, training, challenger,
champion, which know nothing of Dagster. Nothing here knows what a forecast is about.
"""

from vroom_assets.forecast.component import Forecast

__all__ = ["Forecast"]
