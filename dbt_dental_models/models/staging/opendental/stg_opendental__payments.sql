select
    "PayNum" as payment_id,
    {{ reference('"PatNum"') }} as patient_id,
    {{ reference('"PayType"') }} as payment_type_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    {{ reference('"DepositNum"') }} as deposit_id,
    "PayDate" as payment_date,
    "DateEntry" as entered_date,
    {{ cents('"PayAmt"') }} as payment_amount,
    coalesce("PayType", 0) = 0 as is_income_transfer,
    {{ decode_enum('ProcessStat', '"ProcessStatus"') }} as process_status,
    {{ decode_enum('PaymentStatus', '"PaymentStatus"') }} as payment_status,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'payment') }}
