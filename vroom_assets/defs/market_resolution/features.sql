-- What the models see. A market without a quote in the last week is taken to have stood still, unquoted and untraded.
select
    price,
    -- log odds, kept from a price of 0 or 1
    ln((price + 0.002) / (1.002 - price)) as price_odds,
    ln((coalesce(price_mean_7, price) + 0.002) / (1.002 - coalesce(price_mean_7, price))) as week_odds,
    1 / (1 + days_left) as urgency,
    ln(1 + coalesce(volume_7, 0)) as log_volume,
    spread / (coalesce(price_sd_7, 0) + 0.01) as spread_to_volatility,
    days_open / (days_open + days_left + 1) as share_of_life,
    case when price_mean_7 is null then 1 else 0 end as unquoted,
    case when category = 'politics' then 1 else 0 end as politics,
    case when category = 'sports' then 1 else 0 end as sports
from inputs
