-- Known when the market is resolved, which is after every example of it.
select quoted_markets.example_id, markets.resolved_yes, markets.resolved_at
from quoted_markets
join markets using (market_id)
where markets.resolved_yes is not null
