-- What the models see. The rate is reservations in 90 days, shrunk towards 1.5 by half a year of experience:
-- a vehicle seen for few days is taken to be like the others.
select
    technology,
    num_images,
    -- price against what is recommended: twice and half are equally far from fair
    ln(actual_price / recommended_price) as log_price_ratio,
    -- reservations in 90 days so far, shrunk
    90.0 * (reservations_so_far + 3.0) / (days_listed + 180.0) as shrunk_rate,
    -- logarithm of that rate
    ln(90.0 * (reservations_so_far + 3.0) / (days_listed + 180.0)) as log_rate,
    -- how far the rate is to be believed: the less of a history, the more the listing counts
    days_listed / (days_listed + 180.0) as experience,
    -- the last 90 days alone, shrunk to the same mean
    (reservations_last_90 + 1.5) / 2.0 as recent_rate
from inputs
