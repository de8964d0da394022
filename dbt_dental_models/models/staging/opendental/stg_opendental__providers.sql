select
    "ProvNum" as provider_id,
    {{ text_or_null('"Abbr"') }} as abbreviation,
    {{ text_or_null('"FName"') }} as first_name,
    {{ text_or_null('"LName"') }} as last_name,
    {{ text_or_null('"Suffix"') }} as suffix,
    {{ reference('"Specialty"') }} as specialty_id,
    {{ decode_enum('ProviderStatus', '"ProvStatus"') }} as provider_status,
    {{ flag('"IsSecondary"') }} as is_hygienist,
    {{ flag('"IsNotPerson"') }} as is_not_person,
    {{ flag('"IsHidden"') }} as is_hidden,
    "ItemOrder" as sort_order,
    {{ cents('"HourlyProdGoalAmt"') }} as hourly_production_goal,
    "DateTerm" as termination_date,
    "DateTStamp" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'provider') }}
