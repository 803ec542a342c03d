-- What the models see. A market without a quote in the last week is taken to have stood still, unquoted and untraded.
select
    price,
    -- log odds of the price, kept from 0 and 1
    ln((price + 0.002) / (1.002 - price)) as price_odds,
    -- log odds of the mean price of the last seven days
    ln((coalesce(price_mean_7, price) + 0.002) / (1.002 - coalesce(price_mean_7, price))) as week_odds,
    -- near 1 as the end of trading comes
    1 / (1 + days_left) as urgency,
    -- logarithm of what was traded in the last seven days
    ln(1 + coalesce(volume_7, 0)) as log_volume,
    -- what a trade costs beside what the price moves in a week
    spread / (coalesce(price_sd_7, 0) + 0.01) as spread_to_volatility,
    -- how much of its life is over
    days_open / (days_open + days_left + 1) as share_of_life,
    -- 1 without a quote in the last seven days
    case when price_mean_7 is null then 1 else 0 end as unquoted,
    -- 1 for politics
    case when category = 'politics' then 1 else 0 end as politics,
    -- 1 for sports
    case when category = 'sports' then 1 else 0 end as sports
from inputs
