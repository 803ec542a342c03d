-- Strictly after what was known, for as long as the window is.
select
    histories.example_id,
    count(reservations.created_at) as upcoming_reservations,
    histories.as_of + interval 90 day as window_end
from histories
left join reservations
    on reservations.vehicle_id = histories.vehicle_id
    and reservations.created_at > histories.as_of
    and reservations.created_at <= histories.as_of + interval 90 day
group by histories.example_id, histories.as_of
