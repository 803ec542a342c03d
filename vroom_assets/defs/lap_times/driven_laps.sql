-- A lap and the two before it in the stint, as far as their times are known when its own is; the best of the last five
-- of the stint; the two cars ahead, which crossed the line last before it and did not turn into the pits; the other cars,
-- by the laps that each ended during this one; and where they are, by the last lap known of each and as if its next took
-- as long: who is behind, who is about to lap this car and has to be let by, and who has been passed.
with ahead as (
    select
        now.lap_id,
        other.lap_time,
        date_diff('millisecond', other.finished_at, now.finished_at) / 1000 as gap,
        row_number() over (partition by now.lap_id order by other.finished_at desc, other.lap_id) as place
    from laps as now
    join laps as other
        on (other.season, other.circuit, other.session) = (now.season, now.circuit, now.session)
        and other.driver <> now.driver
        and other.finished_at < now.finished_at
        and other.finished_at >= now.finished_at - interval 30 second
        and other.loaded_at <= now.loaded_at
    where other.pit_in = 0
),
latest as (
    select
        now.lap_id,
        other.lap_time,
        other.pit_in,
        date_diff('millisecond', now.finished_at, other.finished_at) / 1000 + other.lap_time as due,
        other.lap >= now.lap and other.lap_time < now.lap_time as is_lapping,
        other.finished_at < now.finished_at - to_milliseconds((1000 * now.lap_time)::bigint) as is_passed
    from laps as now
    join laps as other
        on (other.season, other.circuit, other.session) = (now.season, now.circuit, now.session)
        and other.driver <> now.driver
        and other.finished_at < now.finished_at
        and other.finished_at > now.finished_at - to_milliseconds((2000 * now.lap_time)::bigint)
        and other.loaded_at <= now.loaded_at
    qualify row_number() over (partition by now.lap_id, other.driver order by other.lap desc) = 1
),
behind as (
    select
        lap_id,
        min(greatest(due, 0)) as gap,
        first(lap_time order by due, lap_time) as lap_time,
        min(greatest(due, 0)) filter (where is_lapping) as gap_lapping,
        count(*) filter (where is_passed) as passed
    from latest
    where pit_in = 0 and due between -3 and 30  -- who is later than that has stopped, or turned into the pits
    group by lap_id
),
driven as (
    select other.*, other.lap_time - before.lap_time as change
    from laps as other
    left join laps as before
        on (before.season, before.circuit, before.session, before.driver, before.lap + 1)
            = (other.season, other.circuit, other.session, other.driver, other.lap)
        and before.loaded_at <= other.loaded_at
    where other.pit_in + other.pit_out + other.safety_car
        + coalesce(before.pit_in + before.pit_out + before.safety_car, 0) = 0
),
others as (
    select now.lap_id, median(other.lap_time) as lap_time, median(other.change) as change
    from laps as now
    join driven as other
        on (other.season, other.circuit, other.session) = (now.season, now.circuit, now.session)
        and other.driver <> now.driver
        and other.finished_at <= now.finished_at
        and other.finished_at > now.finished_at - to_milliseconds((1000 * now.lap_time)::bigint)
        and other.loaded_at <= now.loaded_at
    group by now.lap_id
),
best as (
    select now.lap_id, min(known.lap_time) as lap_time
    from laps as now
    join laps as known
        on (known.season, known.circuit, known.session, known.driver, known.stint)
            = (now.season, now.circuit, now.session, now.driver, now.stint)
        and known.lap between now.lap - 4 and now.lap
        and known.loaded_at <= now.loaded_at
    group by now.lap_id
)
select
    now.lap_id,
    now.circuit,
    now.season || ' ' || now.circuit || ' ' || now.session as session,
    now.driver,
    now.loaded_at as as_of,
    now.lap_time as last_lap,
    before.lap_time as lap_before,
    earlier.lap_time as lap_before_that,
    best.lap_time as best_lap,
    ahead.gap as gap_ahead,
    ahead.lap_time as lap_ahead,
    second.gap as gap_second,
    second.lap_time as lap_second,
    behind.gap as gap_behind,
    behind.lap_time as lap_behind,
    behind.gap_lapping,
    coalesce(behind.passed, 0) as passed,
    others.lap_time as lap_of_others,
    others.change as change_of_others,
    now.lap,
    now.tyre_age,
    (now.compound = 'soft')::int as soft,
    (now.compound = 'hard')::int as hard,
    (now.weather = 'rain')::int as rain,
    now.track_temperature
from laps as now
join laps as before
    on (before.season, before.circuit, before.session, before.driver, before.stint, before.lap + 1)
        = (now.season, now.circuit, now.session, now.driver, now.stint, now.lap)
    and before.loaded_at <= now.loaded_at
join laps as earlier
    on (earlier.season, earlier.circuit, earlier.session, earlier.driver, earlier.stint, earlier.lap + 2)
        = (now.season, now.circuit, now.session, now.driver, now.stint, now.lap)
    and earlier.loaded_at <= now.loaded_at
join best on best.lap_id = now.lap_id
left join ahead on ahead.lap_id = now.lap_id and ahead.place = 1
left join ahead as second on second.lap_id = now.lap_id and second.place = 2
left join behind on behind.lap_id = now.lap_id
left join others on others.lap_id = now.lap_id
where now.pit_in + now.pit_out + now.safety_car = 0
    and before.pit_in + before.pit_out + before.safety_car = 0
    and earlier.pit_in + earlier.pit_out + earlier.safety_car = 0
