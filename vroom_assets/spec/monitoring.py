"""What is watched while a champion serves, and when a forecast renews itself because of it.

Nothing is trained because one of these fields changed: they hold from the next load of the definitions on.
"""

from pydantic import Field

from vroom_assets.spec.base import Declared


class Monitoring(Declared):
    """What is watched in each window of predictions and outcomes, and what counts as an alarm.

    An alarm needs evidence that holds however often one checks, and an effect of the size declared here.
    """

    window_minutes: float = Field(
        1440, gt=0, le=44_640, description="length of a window; checks are made when one has closed"
    )
    least_rows: int = Field(
        200, ge=20, description="fewer rows since the champion serves are not enough for any verdict"
    )
    false_alarms: float = Field(
        0.05, gt=0, lt=0.5, description="largest probability of ever raising an alarm on a healthy forecast"
    )
    distance: float = Field(
        0.1, gt=0, lt=1, description="Jensen-Shannon distance (base 2) from training, from which drift counts"
    )
    growth: float = Field(0.05, ge=0, description="growth of the error that is tolerated, as a share of it")
    bias: float = Field(
        0.05, ge=0, description="|mean error| that is tolerated, as a share of the mean target in training"
    )
    coverage: float = Field(
        0.03, ge=0, lt=0.5, description="by how much the share of outcomes inside the interval may be off"
    )
    damage: float = Field(
        0.05,
        ge=0,
        description="estimated growth of the error by a drifted feature, from which drift is harmful, as a share",
    )
    segments: list[str] = Field([], max_length=8, description="tags by whose values errors are watched too")
    recalibrate: bool = Field(
        True, description="whether intervals that are off are corrected from outcomes, without a training"
    )
    shadow_days: float = Field(
        14,
        ge=0,
        description="how long the version before is compared with a new champion on the same requests",
    )


class Retraining(Declared):
    """When monitoring asks for a training, and how often it may."""

    on_drift: bool = Field(True, description="train when drift is harmful")
    on_decay: bool = Field(True, description="train when the error grew, or predictions are biased")
    model_age_days: float | None = Field(
        None, gt=0, description="train with what is held back when the champion is older"
    )
    new_rows: float | None = Field(
        None,
        gt=0,
        description="hold changed data back until they grew or shrank by this share of their bytes, unless drift, decay, "
        "age or a deadline asks for them, or the schedule comes. Default: every change trains",
    )
    before_due_days: float | None = Field(
        None,
        gt=0,
        description="train with what is held back so many days before predictions fall due, if the champion is older "
        "than that",
    )
    cool_down_minutes: float = Field(60, ge=0, description="between two trainings that monitoring asks for")
    runs_per_day: int = Field(4, ge=0, description="trainings that monitoring may ask for in 24 hours")
