select
    "PlanNum" as insurance_plan_id,
    {{ reference('"CarrierNum"') }} as carrier_id,
    {{ reference('"EmployerNum"') }} as employer_id,
    {{ reference('"FeeSched"') }} as fee_schedule_id,
    {{ decode_enum('PlanType', 'coalesce("PlanType", \'\')') }} as plan_type,
    "MonthRenew" as renewal_month,
    {{ flag('"IsMedical"') }} as is_medical,
    {{ flag('"IsHidden"') }} as is_hidden,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'insplan') }}
