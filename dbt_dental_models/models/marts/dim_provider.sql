with providers as (
    select * from {{ ref('stg_opendental__providers') }}
),

-- Money and appointments may point to nobody (0) or to a provider row that is gone: both need a line to stand on.
referenced as (
    select provider_id from {{ ref('int_ledger_entries') }}
    union
    select provider_id from {{ ref('int_appointment_outcomes') }}
),

known as (
    select
        provider_id,
        coalesce(abbreviation, 'provider ' || provider_id) as provider_code,
        concat_ws(' ', first_name, last_name) as provider_name,
        case
            when is_not_person then 'not a person'
            when is_hygienist then 'hygienist'
            else 'dentist'
        end as provider_role,
        provider_status = 'active' and not is_hidden and termination_date is null as is_active,
        hourly_production_goal
    from providers
),

missing as (
    select
        coalesce(referenced.provider_id, 0) as provider_id,
        case
            when referenced.provider_id is null then 'unassigned'
            else 'unknown (' || referenced.provider_id || ')'
        end as provider_code,
        '' as provider_name,
        case when referenced.provider_id is null then 'unassigned' else 'unknown' end as provider_role,
        false as is_active,
        cast(null as numeric(12, 2)) as hourly_production_goal
    from referenced
    left join providers on referenced.provider_id = providers.provider_id
    where providers.provider_id is null
)

select * from known
union all
select * from missing
