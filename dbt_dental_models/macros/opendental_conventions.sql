{#- What OpenDental means by a stored value. Every staging model goes through these. -#}

{#- A key: OpenDental writes 0 for "no reference", never null. -#}
{% macro reference(column) -%}
    nullif({{ column }}, 0)
{%- endmacro %}

{#- Money: a double with binary noise (19.999999), rounded half away from zero to cents. -#}
{% macro cents(column) -%}
    cast({{ column }} as numeric(12, 2))
{%- endmacro %}

{#- Money where -1 means "left blank", not a dollar owed. -#}
{% macro cents_or_blank(column) -%}
    nullif(cast({{ column }} as numeric(12, 2)), -1)
{%- endmacro %}

{#- Text: '' and null mean the same, and blanks hang on either end. -#}
{% macro text_or_null(column) -%}
    nullif(trim({{ column }}), '')
{%- endmacro %}

{#- A boolean by name list (never by data profile): 0 is false, anything else true. -#}
{% macro flag(column) -%}
    (coalesce({{ column }}, 0) <> 0)
{%- endmacro %}

{#- A clock time within a visit: midnight means "not recorded". -#}
{% macro recorded_time(column) -%}
    case when cast({{ column }} as time) <> '00:00' then {{ column }} end
{%- endmacro %}

{#- A recall interval packed into one integer: days in bits 0-7, weeks 8-15, months 16-23, years 24-31. -#}
{% macro recall_interval(column) -%}
    make_interval(
        years => ({{ column }} >> 24) & 255,
        months => ({{ column }} >> 16) & 255,
        weeks => ({{ column }} >> 8) & 255,
        days => {{ column }} & 255
    )
{%- endmacro %}
