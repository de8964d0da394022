select
    "ClaimPaymentNum" as claim_payment_id,
    {{ reference('"PayType"') }} as payment_type_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    {{ reference('"DepositNum"') }} as deposit_id,
    "CheckDate" as payment_date,
    "DateIssued" as issued_date,
    {{ cents('"CheckAmt"') }} as payment_amount,
    {{ flag('"IsPartial"') }} as is_partial,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'claimpayment') }}
