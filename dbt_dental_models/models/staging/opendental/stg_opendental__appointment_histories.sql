select
    "HistApptNum" as appointment_history_id,
    {{ reference('"AptNum"') }} as appointment_id,
    {{ reference('"PatNum"') }} as patient_id,
    {{ reference('"ProvNum"') }} as dentist_id,
    {{ reference('"ProvHyg"') }} as hygienist_id,
    {{ reference('"Op"') }} as operatory_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    {{ decode_enum('HistAppointmentAction', '"HistApptAction"') }} as history_action,
    {{ decode_enum('ApptStatus', '"AptStatus"') }} as appointment_status,
    "HistDateTStamp" as recorded_at,
    "AptDateTime" as scheduled_at,
    {{ flag('"IsNewPatient"') }} as is_new_patient,
    {{ flag('"IsHygiene"') }} as is_marked_hygiene,
    _loaded_at as loaded_at
from {{ source('opendental', 'histappointment') }}
