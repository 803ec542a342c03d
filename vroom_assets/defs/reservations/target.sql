-- Of a history of several years the last one counts: the forecast is of one.
-- A listed vehicle that nobody reserved counts as 0: it is an observation, not a gap.
select
    vehicles.vehicle_id,
    count(reservations.vehicle_id) as reservations
from vehicles
cross join target_window
left join reservations
    on reservations.vehicle_id = vehicles.vehicle_id
    and reservations.created_at > target_window.opens
    and reservations.created_at <= target_window.closes
group by vehicles.vehicle_id
