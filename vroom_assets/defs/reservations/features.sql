-- What the models see, from the inputs that a caller sends. Each line runs twice, in DuckDB for
-- training and inside the served model, and is proved equal on every row before a champion serves.
select
    technology,
    num_images,
    street_parked,
    description,
    -- how much more the host asks than is recommended
    actual_price - recommended_price as price_diff,
    -- price against what is recommended: twice and half are equally far from fair
    ln(actual_price / recommended_price) as log_price_ratio
from inputs
