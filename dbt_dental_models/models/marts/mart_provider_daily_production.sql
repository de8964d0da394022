{{ config(indexes=[{'columns': ['date_day', 'provider_id'], 'unique': true}]) }}

with entries as (
    select * from {{ ref('int_ledger_entries') }}
    where entry_date is not null
),

measures as (
    select
        entry_date as date_day,
        coalesce(provider_id, 0) as provider_id,
        coalesce(sum(amount) filter (where entry_type = 'production'), 0.00) as gross_production,
        coalesce(sum(amount) filter (where entry_type = 'adjustment'), 0.00) as adjustments,
        -coalesce(sum(amount) filter (where entry_type = 'insurance write-off'), 0.00) as insurance_writeoffs,
        -coalesce(sum(amount) filter (where entry_type = 'patient payment'), 0.00) as patient_income,
        -coalesce(sum(amount) filter (where entry_type = 'patient payment' and is_unearned), 0.00) as unearned_income,
        -coalesce(sum(amount) filter (where entry_type = 'insurance payment'), 0.00) as insurance_income,
        count(*) filter (where entry_type = 'production') as completed_procedures
    from entries
    group by entry_date, coalesce(provider_id, 0)
)

select
    date_day,
    provider_id,
    gross_production,
    adjustments,
    insurance_writeoffs,
    gross_production + adjustments - insurance_writeoffs as net_production,
    patient_income,
    unearned_income,
    insurance_income,
    patient_income + insurance_income as total_collections,
    completed_procedures
from measures
