select
    "PatPlanNum" as patient_plan_id,
    {{ reference('"PatNum"') }} as patient_id,
    {{ reference('"InsSubNum"') }} as insurance_subscription_id,
    "Ordinal" as coverage_order,
    {{ decode_enum('Relat', '"Relationship"') }} as relationship,
    {{ flag('"IsPending"') }} as is_pending,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'patplan') }}
