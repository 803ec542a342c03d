-- What was known of each open market at each time of as_of: its quotes that were made and loaded by then.
-- Those of the last seven days are one definition, for the mean, the deviation and the volume alike.
with known as (
    select
        as_of.as_of,
        prices.*,
        prices.quoted_at > as_of.as_of - interval 7 day as recent
    from as_of
    join prices on prices.quoted_at <= as_of.as_of and prices.loaded_at <= as_of.as_of
)
select
    markets.market_id || '@' || strftime(known.as_of, '%Y-%m-%d') as example_id,
    markets.market_id,
    known.as_of,
    markets.category,
    arg_max(known.price, known.quoted_at) as price,
    avg(known.price order by known.quoted_at) filter (known.recent) as price_mean_7,
    stddev_pop(known.price order by known.quoted_at) filter (known.recent) as price_sd_7,
    sum(known.volume order by known.quoted_at) filter (known.recent) as volume_7,
    arg_max(known.spread, known.quoted_at) as spread,
    date_diff('second', known.as_of, markets.closes_at) / 86400 as days_left,
    date_diff('second', markets.opened_at, known.as_of) / 86400 as days_open
from known
join markets
    on markets.market_id = known.market_id
    and markets.opened_at <= known.as_of
    and markets.closes_at > known.as_of
    and (markets.resolved_at is null or markets.resolved_at > known.as_of)
group by all
