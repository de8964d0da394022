{#-
    The day the figures are true for, as a SQL date: var `as_of_date` (ISO, YYYY-MM-DD), or the practice's
    calendar day when the run started. One value per run, so a run over midnight does not mix two days.
-#}
{% macro as_of_date() -%}
    {%- set given = var('as_of_date', '') | string | trim -%}
    {%- if given and not modules.re.match('^[0-9]{4}-[0-9]{2}-[0-9]{2}$', given) -%}
        {{ exceptions.raise_compiler_error("reading var as_of_date: expected YYYY-MM-DD, got '" ~ given ~ "'") }}
    {%- endif -%}
    {%- set zone = modules.pytz.timezone(var('clinic_time_zone')) -%}
    cast('{{ given or run_started_at.astimezone(zone).strftime('%Y-%m-%d') }}' as date)
{%- endmacro %}
