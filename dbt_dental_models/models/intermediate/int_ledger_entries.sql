with procedures as (
    select * from {{ ref('stg_opendental__procedures') }}
    where procedure_status = 'complete'
),

adjustments as (
    select * from {{ ref('stg_opendental__adjustments') }}
),

insurance_lines as (
    select * from {{ ref('stg_opendental__claim_procedures') }}
    where claim_procedure_status in ('received', 'supplemental', 'capitation claim', 'capitation complete')
),

payment_splits as (
    select * from {{ ref('stg_opendental__payment_splits') }}
),

patients as (
    select * from {{ ref('stg_opendental__patients') }}
),

entries as (
    select
        'production' as entry_type,
        procedure_id as source_id,
        patient_id,
        provider_id,
        procedure_date as entry_date,
        procedure_fee as amount,
        false as is_unearned
    from procedures

    union all

    select
        'adjustment' as entry_type,
        adjustment_id as source_id,
        patient_id,
        provider_id,
        adjustment_date as entry_date,
        adjustment_amount as amount,
        false as is_unearned
    from adjustments

    union all

    select
        'insurance write-off' as entry_type,
        claim_procedure_id as source_id,
        patient_id,
        provider_id,
        payment_date as entry_date,
        -writeoff_amount as amount,
        false as is_unearned
    from insurance_lines
    where writeoff_amount <> 0

    union all

    select
        'insurance payment' as entry_type,
        claim_procedure_id as source_id,
        patient_id,
        provider_id,
        payment_date as entry_date,
        -insurance_paid_amount as amount,
        false as is_unearned
    from insurance_lines
    where insurance_paid_amount <> 0

    union all

    select
        'patient payment' as entry_type,
        payment_split_id as source_id,
        patient_id,
        provider_id,
        payment_date as entry_date,
        -split_amount as amount,
        is_unearned
    from payment_splits
)

select
    entries.entry_type,
    entries.source_id,
    entries.patient_id,
    coalesce(patients.guarantor_id, entries.patient_id) as guarantor_id,
    entries.provider_id,
    entries.entry_date,
    entries.amount,
    entries.is_unearned
from entries
left join patients on entries.patient_id = patients.patient_id
