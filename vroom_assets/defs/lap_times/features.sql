-- What the models see, relative to the mean of the last three laps: circuits differ by many seconds, and
-- what is learnt on one has to hold on another.
select
    last_lap,
    (last_lap + lap_before + lap_before_that) / 3.0 as recent,
    last_lap - (last_lap + lap_before + lap_before_that) / 3.0 as last_to_recent,
    (last_lap - lap_before_that) / 2.0 as trend,
    lap,
    tyre_age,
    soft,
    hard,
    rain,
    track_temperature
from inputs
