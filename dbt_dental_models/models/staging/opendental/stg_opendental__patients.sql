-- Names, addresses, contacts, birthdate and notes stay in raw: no figure needs them.
select
    "PatNum" as patient_id,
    {{ reference('"Guarantor"') }} as guarantor_id,
    {{ reference('"PriProv"') }} as primary_provider_id,
    {{ reference('"SecProv"') }} as secondary_provider_id,
    {{ reference('"BillingType"') }} as billing_type_id,
    {{ reference('"FeeSched"') }} as fee_schedule_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    {{ decode_enum('PatientStatus', '"PatStatus"') }} as patient_status,
    {{ decode_enum('PatientGender', '"Gender"') }} as gender,
    {{ decode_enum('ContactMethod', '"PreferRecallMethod"') }} as preferred_recall_method,
    {{ decode_enum('YN', '"TxtMsgOk"') }} as text_message_consent,
    "DateFirstVisit" as recorded_first_visit_date,
    "SecDateEntry" as created_date,
    {{ cents('"EstBalance"') }} as recorded_patient_balance,
    {{ cents('"BalTotal"') }} as recorded_family_balance,
    {{ cents('"InsEst"') }} as recorded_family_insurance_estimate,
    "DateTStamp" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'patient') }}
