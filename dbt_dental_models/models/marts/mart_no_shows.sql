{{ config(indexes=[{'columns': ['month_start', 'provider_id'], 'unique': true}]) }}

with outcomes as (
    select * from {{ ref('int_appointment_outcomes') }}
    where
        slot_date <= {{ as_of_date() }}
        and outcome <> 'upcoming'
),

counts as (
    select
        cast(date_trunc('month', slot_date) as date) as month_start,
        coalesce(provider_id, 0) as provider_id,
        count(*) as scheduled,
        count(*) filter (where outcome = 'completed') as completed,
        count(*) filter (where outcome = 'no-show') as no_shows,
        count(*) filter (where outcome = 'cancelled') as cancelled,
        count(*) filter (where outcome = 'broken, reason unknown') as broken_unknown,
        count(*) filter (where outcome = 'unresolved') as unresolved
    from outcomes
    group by cast(date_trunc('month', slot_date) as date), coalesce(provider_id, 0)
)

select
    month_start,
    provider_id,
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
