select
    "DefNum" as definition_id,
    "Category" as category_code,
    {{ decode_enum('DefCat', '"Category"') }} as category,
    {{ text_or_null('"ItemName"') }} as definition_name,
    {{ text_or_null('"ItemValue"') }} as definition_value,
    "ItemOrder" as sort_order,
    {{ flag('"IsHidden"') }} as is_hidden,
    _loaded_at as loaded_at
from {{ source('opendental', 'definition') }}
