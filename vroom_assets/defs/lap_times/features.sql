-- What the models see, relative to laps just driven: circuits differ by many seconds, and what is learnt on one
-- has to hold on another. Who has nobody within 30 seconds ahead is as if 30 behind a car as quick as they are.
select
    last_lap,
    (last_lap + lap_before + lap_before_that) / 3.0 as recent,
    last_lap - (last_lap + lap_before + lap_before_that) / 3.0 as last_to_recent,
    (last_lap - lap_before_that) / 2.0 as trend,
    best_lap - last_lap as best_to_last,
    coalesce(gap_ahead, 30) as gap_ahead,
    coalesce(lap_ahead, last_lap) - last_lap as ahead_to_last,
    lap,
    tyre_age,
    soft,
    hard,
    rain,
    track_temperature
from inputs
