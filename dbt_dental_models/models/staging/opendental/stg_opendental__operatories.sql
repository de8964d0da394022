select
    "OperatoryNum" as operatory_id,
    {{ text_or_null('"OpName"') }} as operatory_name,
    {{ text_or_null('"Abbrev"') }} as abbreviation,
    {{ reference('"ProvDentist"') }} as dentist_id,
    {{ reference('"ProvHygienist"') }} as hygienist_id,
    {{ reference('"ClinicNum"') }} as clinic_id,
    {{ flag('"IsHygiene"') }} as is_hygiene,
    {{ flag('"IsHidden"') }} as is_hidden,
    "DateTStamp" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'operatory') }}
