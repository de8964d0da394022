{{ config(indexes=[{'columns': ['month_start'], 'unique': true}]) }}

with counts as (
    select
        month_start,
        cast(sum(scheduled) as bigint) as scheduled,
        cast(sum(completed) as bigint) as completed,
        cast(sum(no_shows) as bigint) as no_shows,
        cast(sum(cancelled) as bigint) as cancelled,
        cast(sum(broken_unknown) as bigint) as broken_unknown,
        cast(sum(unresolved) as bigint) as unresolved
    from {{ ref('mart_no_shows') }}
    group by month_start
)

select
    month_start,
    scheduled,
    completed,
    no_shows,
    cancelled,
    broken_unknown,
    unresolved,
    {{ share('completed', 'scheduled') }} as completion_rate,
    {{ share('no_shows', 'scheduled') }} as no_show_rate,
    {{ share('cancelled', 'scheduled') }} as cancellation_rate,
    {{ share('no_shows + cancelled + broken_unknown', 'scheduled') }} as broken_rate
from counts
