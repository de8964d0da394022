{#- A value outside [at_least, at_most]; a bound left out does not bind, null passes. -#}
{% test between(model, column_name, at_least="'-infinity'", at_most="'infinity'") %}
select {{ column_name }}
from {{ model }}
where {{ column_name }}::numeric not between {{ at_least }} and {{ at_most }}
{% endtest %}
