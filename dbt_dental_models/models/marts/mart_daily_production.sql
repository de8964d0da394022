{{ config(indexes=[{'columns': ['date_day'], 'unique': true}]) }}

with provider_days as (
    select * from {{ ref('mart_provider_daily_production') }}
),

calendar as (
    select date_day from {{ ref('dim_date') }}
),

visit_days as (
    select
        visit_date,
        count(*) as patients_seen
    from {{ ref('int_patient_visits') }}
    group by visit_date
),

practice_days as (
    select
        date_day,
        sum(gross_production) as gross_production,
        sum(adjustments) as adjustments,
        sum(insurance_writeoffs) as insurance_writeoffs,
        sum(net_production) as net_production,
        sum(patient_income) as patient_income,
        sum(unearned_income) as unearned_income,
        sum(insurance_income) as insurance_income,
        sum(total_collections) as total_collections,
        cast(sum(completed_procedures) as bigint) as completed_procedures
    from provider_days
    group by date_day
),

first_day as (
    select min(date_day) as date_day from practice_days
    where date_day >= {{ as_of_date() }} - interval '30 years'
),

-- Every day since the first entry, a closed day included, and any stray day that carries money.
days as (
    select calendar.date_day
    from calendar
    inner join first_day on calendar.date_day >= first_day.date_day
    where calendar.date_day <= {{ as_of_date() }}
    union
    select date_day from practice_days
)

select
    days.date_day,
    coalesce(practice_days.gross_production, 0.00) as gross_production,
    coalesce(practice_days.adjustments, 0.00) as adjustments,
    coalesce(practice_days.insurance_writeoffs, 0.00) as insurance_writeoffs,
    coalesce(practice_days.net_production, 0.00) as net_production,
    coalesce(practice_days.patient_income, 0.00) as patient_income,
    coalesce(practice_days.unearned_income, 0.00) as unearned_income,
    coalesce(practice_days.insurance_income, 0.00) as insurance_income,
    coalesce(practice_days.total_collections, 0.00) as total_collections,
    coalesce(practice_days.completed_procedures, 0) as completed_procedures,
    coalesce(visit_days.patients_seen, 0) as patients_seen
from days
left join practice_days on days.date_day = practice_days.date_day
left join visit_days on days.date_day = visit_days.visit_date
