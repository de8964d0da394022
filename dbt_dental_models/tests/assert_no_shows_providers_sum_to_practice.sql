with providers as (
    select
        month_start,
        sum(scheduled) as scheduled,
        sum(completed + no_shows + cancelled + broken_unknown + unresolved) as accounted,
        sum(no_shows) as no_shows
    from {{ ref('mart_no_shows') }}
    group by month_start
)

select coalesce(providers.month_start, practice.month_start) as month_start
from providers
full outer join {{ ref('mart_practice_no_shows') }} as practice on providers.month_start = practice.month_start
where
    providers.scheduled is distinct from practice.scheduled
    or providers.accounted is distinct from practice.scheduled
    or providers.no_shows is distinct from practice.no_shows
