-- OpenDental allots each payment to patients and providers by splits, and what was paid is what was allotted. Where it
-- is not, the practice's own books do not add up: a warning, for its database maintenance mends that, not a night here.
{{ config(severity = 'warn') }}

with allotted as (
    select
        payment_id,
        sum(split_amount) as amount
    from {{ ref('stg_opendental__payment_splits') }}
    where payment_id is not null
    group by payment_id
)

select
    coalesce(payments.payment_id, allotted.payment_id) as payment_id,
    payments.payment_amount,
    allotted.amount as allotted_amount
from {{ ref('stg_opendental__payments') }} as payments
full outer join allotted on payments.payment_id = allotted.payment_id
where coalesce(payments.payment_amount, 0) <> coalesce(allotted.amount, 0)
