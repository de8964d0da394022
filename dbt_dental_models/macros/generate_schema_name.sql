{#- Schemas are used as written (staging, int, marts), without the target's name in front. A build that is published
after its tests makes its marts beside those that are read. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set schema = (custom_schema_name or target.schema) | trim -%}
    {{ unpublished_schema() if schema == 'marts' and publishes_after_tests() else schema }}
{%- endmacro %}
