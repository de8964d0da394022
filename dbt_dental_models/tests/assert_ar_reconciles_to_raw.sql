-- Each family's balance, recomputed from raw without the ledger model.
with movements as (
    select
        "PatNum" as patient_id,
        round("ProcFee"::numeric, 2) * greatest(1, "BaseUnits" + "UnitQty") as amount
    from {{ source('opendental', 'procedurelog') }}
    where "ProcStatus" = 2 and coalesce("ProcDate" <= {{ as_of_date() }}, true)
    union all
    select
        "PatNum" as patient_id,
        round("AdjAmt"::numeric, 2) as amount
    from {{ source('opendental', 'adjustment') }}
    where coalesce("AdjDate" <= {{ as_of_date() }}, true)
    union all
    select
        "PatNum" as patient_id,
        -round("SplitAmt"::numeric, 2) as amount
    from {{ source('opendental', 'paysplit') }}
    where coalesce("DatePay" <= {{ as_of_date() }}, true)
    union all
    select
        "PatNum" as patient_id,
        -round("InsPayAmt"::numeric, 2) - round("WriteOff"::numeric, 2) as amount
    from {{ source('opendental', 'claimproc') }}
    where "Status" in (1, 4, 5, 7) and coalesce("DateCP" <= {{ as_of_date() }}, true)
),

expected as (
    select
        coalesce(nullif(patient."Guarantor", 0), movements.patient_id) as guarantor_id,
        sum(movements.amount) as balance
    from movements
    left join {{ source('opendental', 'patient') }} as patient on movements.patient_id = patient."PatNum"
    where movements.patient_id <> 0
    group by coalesce(nullif(patient."Guarantor", 0), movements.patient_id)
)

select coalesce(expected.guarantor_id, mart.guarantor_id) as guarantor_id
from expected
full outer join {{ ref('mart_ar_aging') }} as mart on expected.guarantor_id = mart.guarantor_id
where coalesce(expected.balance, 0) <> coalesce(mart.balance, 0)
