-- A lap and the two before it in the stint, as far as their times are known when its own is; the best of the stint
-- so far; the car ahead, which is the one that crossed the line last before it and did not turn into the pits; and
-- the other cars, by the laps that each ended during this one.
with ahead as (
    select
        now.lap_id,
        date_diff('millisecond', max(other.finished_at), now.finished_at) / 1000 as gap,
        arg_max(other.lap_time, other.finished_at) as lap_time
    from laps as now
    join laps as other
        on (other.season, other.circuit, other.session) = (now.season, now.circuit, now.session)
        and other.driver <> now.driver
        and other.finished_at < now.finished_at
        and other.finished_at >= now.finished_at - interval 30 second
        and other.loaded_at <= now.loaded_at
    where other.pit_in = 0
    group by now.lap_id, now.finished_at
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
        and known.lap <= now.lap
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
left join ahead on ahead.lap_id = now.lap_id
left join others on others.lap_id = now.lap_id
where now.pit_in + now.pit_out + now.safety_car = 0
    and before.pit_in + before.pit_out + before.safety_car = 0
    and earlier.pit_in + earlier.pit_out + earlier.safety_car = 0
