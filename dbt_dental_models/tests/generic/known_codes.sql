{#- An enumeration value this project cannot name: an OpenDental upgrade brought a code. -#}
{% test known_codes(model, column_name) %}
select distinct {{ column_name }}
from {{ model }}
where {{ column_name }} like 'unknown (%'
{% endtest %}
