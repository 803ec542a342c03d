"""The FastF1 client: all that is asked of it, and of the network, is asked here.

The client keeps what it has read in a folder and asks for it once; it spaces its requests and refuses to make
more of them an hour than the services allow. All of that is its own, and so are its settings: FASTF1_CACHE
names the folder, F1_USERNAME and F1_PASSWORD sign in where the live timing asks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from vroom_assets.ingestion.fastf1.laps import REMEDY, Recording, Session, SessionIncomplete

INSTALL = "uv pip install -e '.[fastf1]'"


class ClientMissing(Exception):
    """The extra that brings the client is not installed."""


class Unreachable(Exception):
    """The services did not answer, or not with what was asked."""


class RateExceeded(Exception):
    """The client has made as many requests as an hour allows."""


class Client:
    """The client on a cache. With `renew` it forgets what it has kept.

    Raises:
        ClientMissing: it is not installed.
    """

    def __init__(self, cache: Path, *, renew: bool = False):
        try:
            import fastf1
            import fastf1.exceptions
        except ImportError as error:
            raise ClientMissing(
                f"reading sessions needs the extra `fastf1`, which is not installed: {INSTALL}"
            ) from error
        cache.mkdir(parents=True, exist_ok=True)
        fastf1.Cache.configure(cache_dir=str(cache))
        if renew:
            fastf1.Cache.clear_cache(str(cache), deep=True)
        self._fastf1: Any = fastf1
        self._errors: Any = fastf1.exceptions

    def calendar(self, season: int) -> pd.DataFrame:
        """The rounds of a season as the client gives them.

        Raises:
            Unreachable: no service gave it. RateExceeded: ask again in an hour.
        """
        try:
            return pd.DataFrame(self._fastf1.get_event_schedule(season, include_testing=False))
        except self._errors.RateLimitExceededError as error:
            raise _exceeded(error) from error
        except ValueError as error:
            raise Unreachable(
                f"the calendar of {season} could not be read ({error}); is there a network?"
            ) from error

    def record(self, session: Session) -> Recording:
        """The laps and the weather of a session.

        The client goes on when a part of a session cannot be read, and then knows nothing of it: a safety car
        that was not read would be none. So each part has to be there.

        Raises:
            Unreachable: a part was not read. RateExceeded: ask again in an hour.
        """
        try:
            one = self._fastf1.get_session(session.season, session.number, session.kind)
            one.load(laps=True, telemetry=False, weather=True, messages=False)
            laps, weather, about, started = (
                one.laps,
                one.weather_data,
                one.session_info,
                one.session_start_time,
            )
            safety_cars = one.track_status
        except self._errors.RateLimitExceededError as error:
            raise _exceeded(error) from error
        except (self._errors.DataNotLoadedError, ValueError) as error:
            raise Unreachable(
                f"{session}: a part of it could not be read, the log of the run says which; is there a network? If so, {REMEDY}"
            ) from error
        if started is None or safety_cars.empty:
            raise SessionIncomplete(f"{session}: its start or its safety cars are not known; {REMEDY}")
        return Recording(
            session=session,
            circuit=about["Meeting"]["Circuit"]["ShortName"],
            started=started,
            laps=pd.DataFrame(laps),
            weather=pd.DataFrame(weather),
        )


def _exceeded(error: Exception) -> RateExceeded:
    return RateExceeded(
        f"as many requests as an hour allows were made ({error}); run it again in an hour, "
        "what was read already is kept"
    )
