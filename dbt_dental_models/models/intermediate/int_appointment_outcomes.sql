with appointments as (
    select
        *,
        cast(scheduled_at as date) as slot_date
    from {{ ref('stg_opendental__appointments') }}
),

break_events as (
    select
        *,
        cast(scheduled_at as date) as slot_date
    from {{ ref('stg_opendental__appointment_histories') }}
    where history_action in ('missed', 'cancelled') and scheduled_at is not null
),

operatories as (
    select * from {{ ref('stg_opendental__operatories') }}
),

-- The last word on a broken slot: an appointment can be marked missed and then corrected to cancelled.
last_break_events as (
    select distinct on (appointment_id, slot_date) *
    from break_events
    order by appointment_id asc, slot_date asc, recorded_at desc nulls last, appointment_history_id desc
),

broken_codes as (
    select
        charted.patient_id,
        charted.procedure_date,
        case
            when bool_or(procedure_codes.procedure_code = 'D9986') then 'missed' else 'cancelled'
        end as code_action
    from {{ ref('stg_opendental__procedures') }} as charted
    inner join {{ ref('stg_opendental__procedure_codes') }} as procedure_codes
        on charted.procedure_code_id = procedure_codes.procedure_code_id
    where charted.procedure_status = 'complete' and procedure_codes.procedure_code in ('D9986', 'D9987')
    group by charted.patient_id, charted.procedure_date
),

-- Where the appointment stands now.
current_slots as (
    select
        appointments.appointment_id,
        appointments.slot_date,
        appointments.patient_id,
        appointments.dentist_id,
        appointments.hygienist_id,
        appointments.operatory_id,
        appointments.is_marked_hygiene,
        appointments.appointment_status,
        coalesce(last_break_events.history_action, broken_codes.code_action) as break_action
    from appointments
    left join last_break_events
        on
            appointments.appointment_id = last_break_events.appointment_id
            and appointments.slot_date = last_break_events.slot_date
    left join broken_codes
        on
            appointments.patient_id = broken_codes.patient_id
            and appointments.slot_date = broken_codes.procedure_date
    where
        appointments.slot_date is not null
        and (
            appointments.appointment_status in ('scheduled', 'asap', 'complete', 'broken')
            -- Broken and put on the unscheduled list; without that evidence the date there is only stale.
            or (appointments.appointment_status = 'unscheduled list' and last_break_events.appointment_id is not null)
        )
),

-- Slots that were broken before the appointment moved to another day (or was deleted).
former_slots as (
    select
        last_break_events.appointment_id,
        last_break_events.slot_date,
        last_break_events.patient_id,
        last_break_events.dentist_id,
        last_break_events.hygienist_id,
        last_break_events.operatory_id,
        last_break_events.is_marked_hygiene,
        'broken' as appointment_status,
        last_break_events.history_action as break_action
    from last_break_events
    left join current_slots
        on
            last_break_events.appointment_id = current_slots.appointment_id
            and last_break_events.slot_date = current_slots.slot_date
    where last_break_events.appointment_id is not null and current_slots.appointment_id is null
),

slots as (
    select * from current_slots
    union all
    select * from former_slots
),

classified as (
    select
        slots.appointment_id,
        slots.slot_date,
        slots.patient_id,
        (
            slots.is_marked_hygiene
            or slots.hygienist_id is not null
            or coalesce(operatories.is_hygiene, false)
        ) as is_hygiene,
        slots.dentist_id,
        slots.hygienist_id,
        case
            when slots.appointment_status = 'complete' then 'completed'
            when slots.appointment_status in ('broken', 'unscheduled list') and slots.break_action = 'missed'
                then 'no-show'
            when slots.appointment_status in ('broken', 'unscheduled list') and slots.break_action = 'cancelled'
                then 'cancelled'
            when slots.appointment_status in ('broken', 'unscheduled list') then 'broken, reason unknown'
            when slots.slot_date < {{ as_of_date() }} then 'unresolved'
            else 'upcoming'
        end as outcome
    from slots
    left join operatories on slots.operatory_id = operatories.operatory_id
)

select
    appointment_id,
    slot_date,
    patient_id,
    case when is_hygiene then coalesce(hygienist_id, dentist_id) else dentist_id end as provider_id,
    is_hygiene,
    outcome
from classified
