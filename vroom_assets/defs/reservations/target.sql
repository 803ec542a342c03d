-- A listed vehicle that nobody reserved counts as 0: it is an observation, not a gap.
select
    vehicles.vehicle_id,
    count(reservations.vehicle_id) as reservations
from vehicles
left join reservations using (vehicle_id)
group by vehicles.vehicle_id
