with procedures as (
    select * from {{ ref('stg_opendental__procedures') }}
    where procedure_status = 'complete'
),

procedure_codes as (
    select * from {{ ref('stg_opendental__procedure_codes') }}
)

select
    procedures.patient_id,
    procedures.procedure_date as visit_date,
    bool_or(
        coalesce(procedure_codes.is_hygiene, false)
        or coalesce(procedure_codes.procedure_code = any(string_to_array('{{ var("hygiene_codes") }}', ' ')), false)
    ) as is_hygiene_visit,
    count(*) as procedure_count
from procedures
left join procedure_codes on procedures.procedure_code_id = procedure_codes.procedure_code_id
where
    procedures.patient_id is not null
    and procedures.procedure_date is not null
    -- A broken-appointment code is charted as a completed procedure of a patient who never came.
    and coalesce(procedure_codes.procedure_code, '') not in ('D9986', 'D9987')
group by procedures.patient_id, procedures.procedure_date
