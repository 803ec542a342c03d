-- A lap and the two before it in the stint, as far as their times are known when its own is.
select
    now.lap_id,
    now.circuit,
    now.session,
    now.driver,
    now.loaded_at as as_of,
    now.lap_time as last_lap,
    before.lap_time as lap_before,
    earlier.lap_time as lap_before_that,
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
where now.pit_in + now.pit_out + now.safety_car = 0
    and before.pit_in + before.pit_out + before.safety_car = 0
    and earlier.pit_in + earlier.pit_out + earlier.safety_car = 0
