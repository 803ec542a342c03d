-- What the models see, relative to laps just driven: circuits differ by many seconds, and what is learnt on one
-- has to hold on another. Who has nobody within 30 seconds ahead is as if 30 behind a car as quick as they are.
select
    last_lap,
    -- mean of the last three laps
    (last_lap + lap_before + lap_before_that) / 3.0 as recent,
    -- how much slower the last lap was than the mean of three
    last_lap - (last_lap + lap_before + lap_before_that) / 3.0 as last_to_recent,
    -- change from lap to lap: fuel burns off, tyres wear
    (last_lap - lap_before_that) / 2.0 as trend,
    -- how much quicker these tyres have been
    best_lap - last_lap as best_to_last,
    -- time to the car ahead, at most 30 s
    coalesce(gap_ahead, 30) as gap_ahead,
    -- how much slower the car ahead is: who closes up is held up
    coalesce(lap_ahead, last_lap) - last_lap as ahead_to_last,
    -- how much slower the others are, and have become: rain, flags and a drying track come to all
    coalesce(lap_of_others, last_lap) - last_lap as others_to_last,
    coalesce(change_of_others, 0) as change_of_others,
    lap,
    tyre_age,
    soft,
    hard,
    rain,
    track_temperature
from inputs
