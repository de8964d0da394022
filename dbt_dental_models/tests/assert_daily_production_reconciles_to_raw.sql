-- Each day's figures, recomputed from raw without the ledger model: whole cents as integers, one subquery a measure.
with days as (
    select date_day from {{ ref('mart_daily_production') }}
    union
    select "ProcDate" as date_day from {{ source('opendental', 'procedurelog') }}
    where "ProcStatus" = 2 and "ProcDate" is not null
    union
    select "AdjDate" as date_day from {{ source('opendental', 'adjustment') }}
    where "AdjDate" is not null
    union
    select "DateCP" as date_day from {{ source('opendental', 'claimproc') }}
    where "Status" in (1, 4, 5, 7) and "DateCP" is not null
    union
    select "DatePay" as date_day from {{ source('opendental', 'paysplit') }}
    where "DatePay" is not null
),

production as (
    select
        "ProcDate" as date_day,
        sum(
            round("ProcFee"::numeric * 100)::bigint
            * case when "BaseUnits" + "UnitQty" < 1 then 1 else "BaseUnits" + "UnitQty" end
        ) as cents
    from {{ source('opendental', 'procedurelog') }}
    where "ProcStatus" = 2
    group by "ProcDate"
),

adjusted as (
    select
        "AdjDate" as date_day,
        sum(round("AdjAmt"::numeric * 100)::bigint) as cents
    from {{ source('opendental', 'adjustment') }}
    group by "AdjDate"
),

insurance as (
    select
        "DateCP" as date_day,
        sum(round("WriteOff"::numeric * 100)::bigint) as writeoff_cents,
        sum(round("InsPayAmt"::numeric * 100)::bigint) as paid_cents
    from {{ source('opendental', 'claimproc') }}
    where "Status" = any(array[1, 4, 5, 7])
    group by "DateCP"
),

splits as (
    select
        "DatePay" as date_day,
        sum(round("SplitAmt"::numeric * 100)::bigint) as cents,
        sum(case when "UnearnedType" <> 0 then round("SplitAmt"::numeric * 100)::bigint else 0 end)
            as unearned_cents
    from {{ source('opendental', 'paysplit') }}
    group by "DatePay"
),

expected as (
    select
        days.date_day,
        coalesce(production.cents, 0) as gross_production,
        coalesce(adjusted.cents, 0) as adjustments,
        coalesce(insurance.writeoff_cents, 0) as insurance_writeoffs,
        coalesce(splits.cents, 0) as patient_income,
        coalesce(splits.unearned_cents, 0) as unearned_income,
        coalesce(insurance.paid_cents, 0) as insurance_income
    from days
    left join production on days.date_day = production.date_day
    left join adjusted on days.date_day = adjusted.date_day
    left join insurance on days.date_day = insurance.date_day
    left join splits on days.date_day = splits.date_day
)

select expected.date_day
from expected
left join {{ ref('mart_daily_production') }} as mart on expected.date_day = mart.date_day
-- A day beyond the calendar that carries no money has no row.
where
    coalesce(mart.gross_production, 0) * 100 <> expected.gross_production
    or coalesce(mart.adjustments, 0) * 100 <> expected.adjustments
    or coalesce(mart.insurance_writeoffs, 0) * 100 <> expected.insurance_writeoffs
    or coalesce(mart.net_production, 0) * 100
    <> expected.gross_production + expected.adjustments - expected.insurance_writeoffs
    or coalesce(mart.patient_income, 0) * 100 <> expected.patient_income
    or coalesce(mart.unearned_income, 0) * 100 <> expected.unearned_income
    or coalesce(mart.insurance_income, 0) * 100 <> expected.insurance_income
    or coalesce(mart.total_collections, 0) * 100 <> expected.patient_income + expected.insurance_income
