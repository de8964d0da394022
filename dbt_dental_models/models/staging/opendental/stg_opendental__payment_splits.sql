select
    "SplitNum" as payment_split_id,
    {{ reference('"PayNum"') }} as payment_id,
    {{ reference('"PatNum"') }} as patient_id,
    {{ reference('"ProvNum"') }} as provider_id,
    {{ reference('"ProcNum"') }} as procedure_id,
    {{ reference('"AdjNum"') }} as adjustment_id,
    {{ reference('"PayPlanNum"') }} as payment_plan_id,
    {{ reference('"UnearnedType"') }} as unearned_type_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    "DatePay" as payment_date,
    "DateEntry" as entered_date,
    {{ cents('"SplitAmt"') }} as split_amount,
    {{ flag('"UnearnedType"') }} as is_unearned,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'paysplit') }}
