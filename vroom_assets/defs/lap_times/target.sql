-- The lap after it, if it is driven through. Nothing is left out for how long it took.
select driven_laps.lap_id, next.lap_time as next_lap
from driven_laps
join laps as now using (lap_id)
join laps as next
    on (next.season, next.circuit, next.session, next.driver, next.lap)
        = (now.season, now.circuit, now.session, now.driver, now.lap + 1)
where next.pit_in + next.pit_out + next.safety_car = 0
