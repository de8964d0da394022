select
    "InsSubNum" as insurance_subscription_id,
    {{ reference('"PlanNum"') }} as insurance_plan_id,
    {{ reference('"Subscriber"') }} as subscriber_patient_id,
    "DateEffective" as effective_date,
    "DateTerm" as termination_date,
    {{ flag('"AssignBen"') }} as is_benefit_assigned,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'inssub') }}
