-- Active patients and those seen at all, recounted from raw.
with last_visits as (
    select
        procedurelog."PatNum",
        max(procedurelog."ProcDate") as last_visit_date
    from {{ source('opendental', 'procedurelog') }} as procedurelog
    where
        procedurelog."ProcStatus" = 2
        and procedurelog."ProcDate" <= {{ as_of_date() }}
        and procedurelog."CodeNum" not in (
            select procedurecode."CodeNum" from {{ source('opendental', 'procedurecode') }} as procedurecode
            where procedurecode."ProcCode" in ('D9986', 'D9987')
        )
    group by procedurelog."PatNum"
),

expected as (
    select
        count(*) as seen,
        count(*) filter (
            where patient."PatStatus" = 0
            and last_visits.last_visit_date
            > {{ as_of_date() }} - interval '{{ var("active_patient_months") }} months'
        ) as active
    from {{ source('opendental', 'patient') }} as patient
    inner join last_visits on patient."PatNum" = last_visits."PatNum"
    where patient."PatStatus" <> 4
),

actual as (
    select
        count(*) filter (where visit_count > 0) as seen,
        count(*) filter (where is_active) as active
    from {{ ref('mart_patient_retention') }}
)

select
    expected.seen as expected_seen,
    actual.seen,
    expected.active as expected_active,
    actual.active
from expected
cross join actual
where expected.seen <> actual.seen or expected.active <> actual.active
