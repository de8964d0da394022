-- The buckets again, the other way round: charges summed into buckets first, then the family's credits poured over
-- them from the oldest bucket down. It must agree with aging charge by charge.
with charged as (
    select
        guarantor_id,
        coalesce(sum(amount) filter (where amount > 0 and coalesce(age_days, 99999) > 90), 0) as charged_over_90,
        coalesce(sum(amount) filter (where amount > 0 and age_days between 61 and 90), 0) as charged_61_90,
        coalesce(sum(amount) filter (where amount > 0 and age_days between 31 and 60), 0) as charged_31_60,
        coalesce(sum(amount) filter (where amount > 0 and age_days <= 30), 0) as charged_0_30,
        coalesce(-sum(amount) filter (where amount < 0), 0) as credits
    from (
        select
            guarantor_id,
            amount,
            {{ as_of_date() }} - entry_date as age_days
        from {{ ref('int_ledger_entries') }}
        where entry_date is null or entry_date <= {{ as_of_date() }}
    ) as aged
    group by guarantor_id
),

expected as (
    select
        guarantor_id,
        greatest(0, charged_over_90 - credits) as balance_over_90,
        least(charged_61_90, greatest(0, charged_over_90 + charged_61_90 - credits)) as balance_61_90,
        least(charged_31_60, greatest(0, charged_over_90 + charged_61_90 + charged_31_60 - credits))
            as balance_31_60,
        least(charged_0_30, greatest(0, charged_over_90 + charged_61_90 + charged_31_60 + charged_0_30 - credits))
            as balance_0_30
    from charged
)

select mart.guarantor_id
from {{ ref('mart_ar_aging') }} as mart
inner join expected on mart.guarantor_id = expected.guarantor_id
where
    mart.balance_0_30 <> expected.balance_0_30
    or mart.balance_31_60 <> expected.balance_31_60
    or mart.balance_61_90 <> expected.balance_61_90
    or mart.balance_over_90 <> expected.balance_over_90
