{{ config(indexes=[{'columns': ['patient_id'], 'unique': true}]) }}

with patients as (
    select * from {{ ref('stg_opendental__patients') }}
    where patient_status <> 'deleted'
),

visits as (
    select
        patient_id,
        visit_date,
        is_hygiene_visit,
        row_number() over (partition by patient_id order by visit_date) as visit_number
    from {{ ref('int_patient_visits') }}
    where visit_date <= {{ as_of_date() }}
),

visit_history as (
    select
        patient_id,
        count(*) as visit_count,
        min(visit_date) as first_charted_visit_date,
        max(visit_date) filter (where visit_number = 2) as second_visit_date,
        max(visit_date) as last_visit_date,
        max(visit_date) filter (where is_hygiene_visit) as last_hygiene_visit_date
    from visits
    group by patient_id
),

next_appointments as (
    select
        patient_id,
        cast(min(scheduled_at) as date) as next_appointment_date
    from {{ ref('stg_opendental__appointments') }}
    where
        appointment_status in ('scheduled', 'asap')
        and scheduled_at >= {{ as_of_date() }}
    group by patient_id
),

-- One recall a patient: of the live ones, the one due first.
live_recalls as (
    select distinct on (patient_id)
        patient_id,
        due_date,
        scheduled_date,
        recall_interval
    from {{ ref('stg_opendental__recalls') }}
    where
        not is_disabled
        and due_date is not null
        and coalesce(disabled_until_date <= {{ as_of_date() }}, true)
    order by patient_id asc, due_date asc, recall_id asc
),

joined as (
    select
        patients.patient_id,
        patients.guarantor_id,
        patients.patient_status,
        patients.primary_provider_id,
        case
            when visit_history.patient_id is not null
                then least(patients.recorded_first_visit_date, visit_history.first_charted_visit_date)
        end as first_visit_date,
        visit_history.first_charted_visit_date,
        visit_history.second_visit_date,
        visit_history.last_visit_date,
        visit_history.last_hygiene_visit_date,
        coalesce(visit_history.visit_count, 0) as visit_count,
        next_appointments.next_appointment_date,
        live_recalls.due_date as recall_due_date,
        live_recalls.scheduled_date as recall_scheduled_date,
        live_recalls.recall_interval
    from patients
    left join visit_history on patients.patient_id = visit_history.patient_id
    left join next_appointments on patients.patient_id = next_appointments.patient_id
    left join live_recalls on patients.patient_id = live_recalls.patient_id
    where patients.patient_status = 'patient' or visit_history.patient_id is not null
)

select
    patient_id,
    guarantor_id,
    patient_status,
    primary_provider_id,
    {{ as_of_date() }} as as_of_date,
    first_visit_date,
    cast(date_trunc('month', first_visit_date) as date) as first_visit_month,
    second_visit_date,
    last_visit_date,
    last_hygiene_visit_date,
    visit_count,
    {{ as_of_date() }} - last_visit_date as days_since_last_visit,
    patient_status = 'patient' and coalesce(
        last_visit_date > {{ as_of_date() }} - interval '{{ var("active_patient_months") }} months', false
    ) as is_active,
    case
        -- Their first visit lies before the charted history, so the second one in it proves nothing.
        when first_visit_date < first_charted_visit_date then null
        when second_visit_date <= first_visit_date + interval '12 months' then true
        when {{ as_of_date() }} > first_visit_date + interval '12 months' then false
    end as returned_within_12_months,
    next_appointment_date,
    recall_due_date,
    recall_scheduled_date,
    recall_interval,
    case
        when recall_due_date is null then 'not on recall'
        when recall_due_date > {{ as_of_date() }} then 'current'
        when recall_scheduled_date >= {{ as_of_date() }} then 'scheduled'
        when recall_due_date >= {{ as_of_date() }} - {{ var("recall_grace_days") }} then 'due'
        else 'overdue'
    end as recall_status
from joined
