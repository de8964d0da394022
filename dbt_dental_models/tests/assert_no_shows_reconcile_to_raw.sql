-- The practice's totals, recounted from raw: completed and unresolved slots are appointments as they stand; broken
-- slots are the set of (appointment, day) that is broken now or has a break in its history and was not kept after all.
with standing as (
    select
        "AptNum",
        "AptStatus",
        "AptDateTime"::date as slot_date
    from {{ source('opendental', 'appointment') }}
    where "AptDateTime"::date <= {{ as_of_date() }}
),

kept as (
    select
        "AptNum",
        slot_date
    from standing
    where "AptStatus" in (1, 2, 4)
),

broken as (
    select
        "AptNum",
        slot_date
    from standing
    where "AptStatus" = 5
    union
    select
        "AptNum",
        "AptDateTime"::date as slot_date
    from {{ source('opendental', 'histappointment') }}
    where "HistApptAction" in (2, 3) and "AptDateTime"::date <= {{ as_of_date() }} and "AptNum" <> 0
    except
    select * from kept
),

expected as (
    select
        count(*) filter (where "AptStatus" = 2) as completed,
        count(*) filter (where "AptStatus" in (1, 4) and slot_date < {{ as_of_date() }}) as unresolved,
        (select count(*) from broken) as broken
    from standing
),

actual as (
    select
        coalesce(sum(completed), 0) as completed,
        coalesce(sum(unresolved), 0) as unresolved,
        coalesce(sum(no_shows + cancelled + broken_unknown), 0) as broken,
        coalesce(sum(scheduled), 0) as scheduled
    from {{ ref('mart_practice_no_shows') }}
)

select
    expected.completed as expected_completed,
    actual.completed,
    expected.unresolved as expected_unresolved,
    actual.unresolved,
    expected.broken as expected_broken,
    actual.broken,
    actual.scheduled
from expected
cross join actual
where
    actual.completed <> expected.completed
    or actual.unresolved <> expected.unresolved
    or actual.broken <> expected.broken
    or actual.scheduled <> expected.completed + expected.unresolved + expected.broken
