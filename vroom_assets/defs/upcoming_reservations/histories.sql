-- What was known of each vehicle at each time of as_of: of reservations, those made and loaded by then.
select
    vehicles.vehicle_id || '@' || strftime(as_of.as_of, '%Y-%m-%d') as example_id,
    vehicles.vehicle_id,
    as_of.as_of,
    vehicles.technology,
    vehicles.actual_price,
    vehicles.recommended_price,
    vehicles.num_images,
    date_diff('second', vehicles.listed_at, as_of.as_of) / 86400 as days_listed,
    count(reservations.created_at) as reservations_so_far,
    count(reservations.created_at)
        filter (reservations.created_at > as_of.as_of - interval 90 day) as reservations_last_90
from vehicles
join as_of on vehicles.listed_at <= as_of.as_of
left join reservations
    on reservations.vehicle_id = vehicles.vehicle_id
    and reservations.created_at <= as_of.as_of
    and reservations.loaded_at <= as_of.as_of
group by all
