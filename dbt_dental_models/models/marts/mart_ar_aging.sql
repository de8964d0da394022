{{ config(indexes=[{'columns': ['guarantor_id'], 'unique': true}]) }}

with entries as (
    -- An entry without a date cannot be recent: it is kept and ages as the oldest.
    select
        guarantor_id,
        patient_id,
        entry_type,
        source_id,
        amount,
        coalesce(entry_date, cast('1900-01-01' as date)) as entry_date
    from {{ ref('int_ledger_entries') }}
    where
        guarantor_id is not null
        and (entry_date is null or entry_date <= {{ as_of_date() }})
),

patients as (
    select * from {{ ref('stg_opendental__patients') }}
),

families as (
    select
        guarantor_id,
        sum(amount) as balance,
        -coalesce(sum(amount) filter (where amount < 0), 0.00) as total_credits,
        max(entry_date) filter (where entry_type = 'patient payment' and amount < 0) as last_patient_payment_date
    from entries
    group by guarantor_id
),

charges as (
    select
        guarantor_id,
        entry_date,
        amount,
        sum(amount) over (
            partition by guarantor_id
            order by entry_date, entry_type, source_id
            rows between unbounded preceding and current row
        ) as charged_so_far
    from entries
    where amount > 0
),

-- First in, first out: the family's credits pay its oldest charges; what they do not reach is open.
open_charges as (
    select
        charges.guarantor_id,
        charges.entry_date,
        {{ as_of_date() }} - charges.entry_date as age_days,
        least(charges.amount, charges.charged_so_far - families.total_credits) as open_amount
    from charges
    inner join families on charges.guarantor_id = families.guarantor_id
    where charges.charged_so_far > families.total_credits
),

buckets as (
    select
        guarantor_id,
        coalesce(sum(open_amount) filter (where age_days <= 30), 0.00) as balance_0_30,
        coalesce(sum(open_amount) filter (where age_days between 31 and 60), 0.00) as balance_31_60,
        coalesce(sum(open_amount) filter (where age_days between 61 and 90), 0.00) as balance_61_90,
        coalesce(sum(open_amount) filter (where age_days > 90), 0.00) as balance_over_90,
        nullif(min(entry_date), '1900-01-01') as oldest_open_charge_date
    from open_charges
    group by guarantor_id
),

pending_claims as (
    select
        coalesce(patients.guarantor_id, claim_procedures.patient_id) as guarantor_id,
        sum(
            claim_procedures.insurance_estimate_amount
            + coalesce(
                claim_procedures.writeoff_estimate_override_amount, claim_procedures.writeoff_estimate_amount, 0
            )
        ) as pending_insurance
    from {{ ref('stg_opendental__claim_procedures') }} as claim_procedures
    left join patients on claim_procedures.patient_id = patients.patient_id
    where claim_procedures.claim_procedure_status = 'not received'
    group by coalesce(patients.guarantor_id, claim_procedures.patient_id)
),

recorded as (
    select
        patient_id as guarantor_id,
        recorded_family_balance
    from patients
    where patient_id = guarantor_id
)

select
    families.guarantor_id,
    {{ as_of_date() }} as as_of_date,
    families.balance,
    greatest(families.balance, 0.00) as amount_owed,
    coalesce(buckets.balance_0_30, 0.00) as balance_0_30,
    coalesce(buckets.balance_31_60, 0.00) as balance_31_60,
    coalesce(buckets.balance_61_90, 0.00) as balance_61_90,
    coalesce(buckets.balance_over_90, 0.00) as balance_over_90,
    greatest(-families.balance, 0.00) as credit_balance,
    coalesce(pending_claims.pending_insurance, 0.00) as pending_insurance,
    families.balance - coalesce(pending_claims.pending_insurance, 0.00) as estimated_patient_portion,
    buckets.oldest_open_charge_date,
    nullif(families.last_patient_payment_date, '1900-01-01') as last_patient_payment_date,
    recorded.recorded_family_balance
from families
left join buckets on families.guarantor_id = buckets.guarantor_id
left join pending_claims on families.guarantor_id = pending_claims.guarantor_id
left join recorded on families.guarantor_id = recorded.guarantor_id
where families.balance <> 0
