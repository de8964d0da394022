with providers as (
    select
        date_day,
        sum(gross_production) as gross_production,
        sum(net_production) as net_production,
        sum(total_collections) as total_collections,
        sum(completed_procedures) as completed_procedures
    from {{ ref('mart_provider_daily_production') }}
    group by date_day
)

select coalesce(providers.date_day, practice.date_day) as date_day
from providers
full outer join {{ ref('mart_daily_production') }} as practice on providers.date_day = practice.date_day
where
    practice.date_day is null
    or practice.gross_production <> coalesce(providers.gross_production, 0)
    or practice.net_production <> coalesce(providers.net_production, 0)
    or practice.total_collections <> coalesce(providers.total_collections, 0)
    or practice.completed_procedures <> coalesce(providers.completed_procedures, 0)
