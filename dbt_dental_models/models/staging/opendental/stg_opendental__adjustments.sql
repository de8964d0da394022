select
    "AdjNum" as adjustment_id,
    {{ reference('"PatNum"') }} as patient_id,
    {{ reference('"ProvNum"') }} as provider_id,
    {{ reference('"ProcNum"') }} as procedure_id,
    {{ reference('"AdjType"') }} as adjustment_type_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    "AdjDate" as adjustment_date,
    "ProcDate" as procedure_date,
    "DateEntry" as entered_date,
    {{ cents('"AdjAmt"') }} as adjustment_amount,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'adjustment') }}
