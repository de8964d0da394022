-- depends_on: {{ ref('mart_daily_production') }}
-- depends_on: {{ ref('mart_patient_retention') }}
-- Nothing past raw names, addresses or describes a patient.
select
    table_schema,
    table_name,
    column_name
from information_schema.columns
where
    table_schema in ('staging', 'int', 'marts')
    and column_name ~ '(ssn|birth|address|phone|email|zip|note|remark|medicaid|subscriber_code|first_name|last_name)'
    and table_name <> 'stg_opendental__providers'
