-- One row per entity: its key, and what is forecast.
select trip_id, duration
from trips
