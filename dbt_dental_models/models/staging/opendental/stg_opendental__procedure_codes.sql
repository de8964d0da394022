select
    "CodeNum" as procedure_code_id,
    {{ text_or_null('"ProcCode"') }} as procedure_code,
    {{ text_or_null('"Descript"') }} as description,
    {{ text_or_null('"AbbrDesc"') }} as short_description,
    {{ reference('"ProcCat"') }} as category_id,
    {{ decode_enum('TreatmentArea', '"TreatArea"') }} as treatment_area,
    {{ flag('"IsHygiene"') }} as is_hygiene,
    {{ flag('"NoBillIns"') }} as is_not_billed_to_insurance,
    "DateTStamp" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'procedurecode') }}
