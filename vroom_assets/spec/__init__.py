"""ForecastSpec: the typed declaration of a forecast.

A forecast is a folder under ``defs/`` that holds ``defs.yaml`` (these fields), ``features.sql`` and
``target.sql``. Everything the machinery knows about a problem, it knows from here; a declaration that
contradicts itself is refused before anything runs, with the field and the remedy.
"""

from vroom_api.contract import Kind
from vroom_assets.spec.base import Declared
from vroom_assets.spec.candidates import (
    FACTOR,
    FAMILIES,
    MOST_VARIANTS,
    SIMPLEST_FIRST,
    SUMS_OF_TERMS,
    TRANSFORMED,
    TWEEDIE_POWER,
    Candidate,
    Curve,
    Family,
    Monotone,
    Takes,
)
from vroom_assets.spec.forecast import (
    ONE_CLASS,
    PURPOSES,
    Ages,
    Automation,
    Choice,
    Contest,
    Expired,
    Fallback,
    ForecastSpec,
    Gates,
    Purpose,
    Required,
    Validation,
)
from vroom_assets.spec.monitoring import Monitoring, Retraining
from vroom_assets.spec.tables import OTHER, Column, ColumnType, Examples, Format, Period, Source, Unseen

__all__ = [
    "FACTOR",
    "FAMILIES",
    "MOST_VARIANTS",
    "ONE_CLASS",
    "OTHER",
    "PURPOSES",
    "SIMPLEST_FIRST",
    "SUMS_OF_TERMS",
    "TRANSFORMED",
    "TWEEDIE_POWER",
    "Ages",
    "Automation",
    "Candidate",
    "Choice",
    "Column",
    "ColumnType",
    "Contest",
    "Curve",
    "Declared",
    "Examples",
    "Expired",
    "Fallback",
    "Family",
    "ForecastSpec",
    "Format",
    "Gates",
    "Kind",
    "Monitoring",
    "Monotone",
    "Period",
    "Purpose",
    "Required",
    "Retraining",
    "Source",
    "Takes",
    "Unseen",
    "Validation",
]
