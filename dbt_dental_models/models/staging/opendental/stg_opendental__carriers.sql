select
    "CarrierNum" as carrier_id,
    {{ text_or_null('"CarrierName"') }} as carrier_name,
    {{ text_or_null('"ElectID"') }} as payer_code,
    {{ reference('"CarrierGroupName"') }} as carrier_group_id,
    {{ flag('"IsHidden"') }} as is_hidden,
    "SecDateTEdit" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'carrier') }}
