{#- The nightly run sets DBT_PUBLISH=after_tests: what one reads in `marts` changes when, and only when, everything was
built and every test has passed, all tables in one transaction. By hand a build is there at once. -#}
{% macro publishes_after_tests() -%}
    {{ return(env_var('DBT_PUBLISH', '') == 'after_tests') }}
{%- endmacro %}

{% macro unpublished_schema() -%}
    {{ return('marts_unpublished') }}
{%- endmacro %}

{#- on-run-end: moves what this run has made to where it is read, in the place of the one before, with the rights that
others have on that one and, as for every new table, those of the schema's default privileges. Views of other people on
a table go with it, as with any build of dbt. After a failure it stays where it was made, to be looked at. -#}
{% macro publish(results) -%}
    {%- set bad = results | rejectattr('status', 'in', ['success', 'pass', 'warn']) | list -%}
    {%- set made = [] -%}
    {%- for result in results if result.node.resource_type == 'model' and result.node.schema == unpublished_schema() -%}
        {%- do made.append("'" ~ result.node.alias ~ "'") -%}
    {%- endfor -%}
    {%- if made and not bad -%}
        do $publish$
        declare
            own record;
            given record;
        begin
            create schema if not exists marts;
            for own in
                select
                    made.oid,
                    made.relname,
                    made.relowner,
                    case made.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end as kind,
                    case before.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end as before_kind,
                    before.oid is not null as replaces,
                    before.relacl as before_acl
                from pg_class as made
                left join pg_class as before
                    on made.relname = before.relname and before.relnamespace = 'marts'::regnamespace
                where
                    made.relnamespace = '{{ unpublished_schema() }}'::regnamespace
                    and made.relname in ({{ made | join(', ') }})
            loop
                if own.replaces then
                    execute format('drop %s marts.%I cascade', own.before_kind, own.relname);
                end if;
                execute format('alter %s {{ unpublished_schema() }}.%I set schema marts', own.kind, own.relname);
                for given in
                    select
                        acl.privilege_type as privilege,
                        acl.is_grantable,
                        case acl.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end as grantee
                    from (
                        select own.before_acl as relacl
                        union all
                        select defaclacl
                        from pg_default_acl
                        where
                            defaclnamespace = 'marts'::regnamespace
                            and defaclobjtype = 'r'
                            and defaclrole = own.relowner
                    ) as rights
                    cross join lateral aclexplode(rights.relacl) as acl
                    where acl.grantee <> own.relowner
                loop
                    execute format(
                        'grant %s on marts.%I to %s%s',
                        given.privilege,
                        own.relname,
                        given.grantee,
                        case when given.is_grantable then ' with grant option' else '' end
                    );
                end loop;
            end loop;
            drop schema {{ unpublished_schema() }} cascade;
        end
        $publish$
    {%- endif -%}
{%- endmacro %}
