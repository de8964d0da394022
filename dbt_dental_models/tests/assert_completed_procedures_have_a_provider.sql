-- Their production is the practice's and no provider's: the providers' figures are short of it.
{{ config(severity = 'warn') }}

select procedure_id
from {{ ref('stg_opendental__procedures') }}
where procedure_status = 'complete' and provider_id is null
