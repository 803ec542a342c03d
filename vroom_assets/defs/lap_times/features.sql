-- What the models see, relative to laps just driven: circuits differ by many seconds, and what is learnt on one
-- has to hold on another. Who has nobody within 30 seconds ahead or behind is as if 30 from a car as quick as they are.
select
    last_lap,
    -- mean of the last three laps
    (last_lap + lap_before + lap_before_that) / 3.0 as recent,
    -- how much slower the last lap was than the mean of three
    last_lap - (last_lap + lap_before + lap_before_that) / 3.0 as last_to_recent,
    -- change from lap to lap: fuel burns off, tyres wear
    (last_lap - lap_before_that) / 2.0 as trend,
    -- how much slower the lap before was: one lap alone may have been held up
    lap_before - last_lap as before_to_last,
    -- how much slower the lap before that was
    lap_before_that - last_lap as earlier_to_last,
    -- how much slower this car has become than the others have: that is not rain or flags, and will not last
    last_lap - lap_before - coalesce(change_of_others, 0) as own_change,
    -- how much quicker the best of the last five laps was
    best_lap - last_lap as best_to_last,
    -- time to the car ahead, at most 30 s
    coalesce(gap_ahead, 30) as gap_ahead,
    -- how much slower the car ahead is: who closes up is held up
    coalesce(lap_ahead, last_lap) - last_lap as ahead_to_last,
    -- time to the second car ahead, at most 30 s: it holds up the first, or is the next to pass
    coalesce(gap_second, 30) as gap_second,
    -- how much slower the second car ahead is
    coalesce(lap_second, last_lap) - last_lap as second_to_last,
    -- time to the car behind, at most 30 s
    coalesce(gap_behind, 30) as gap_behind,
    -- how much slower the car behind is: a quicker one comes by, or has to be defended against
    coalesce(lap_behind, last_lap) - last_lap as behind_to_last,
    -- time to the next quicker car that is a lap ahead, at most 30 s: it has to be let by, which costs time
    coalesce(gap_lapping, 30) as gap_lapping,
    -- cars passed in the last lap: who has passed is free
    passed,
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
