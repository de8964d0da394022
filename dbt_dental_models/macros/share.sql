{#- A share of a whole as a fraction 0..1 with four decimals; null for an empty whole. -#}
{% macro share(part, whole) -%}
    round(({{ part }})::numeric / nullif({{ whole }}, 0), 4)
{%- endmacro %}
