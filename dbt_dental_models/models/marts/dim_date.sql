with used_dates as (
    select entry_date as date_day from {{ ref('int_ledger_entries') }}
    where entry_date is not null
    union
    select slot_date as date_day from {{ ref('int_appointment_outcomes') }}
),

-- A mistyped year must not stretch the calendar over centuries: the span is bounded, stray days stand alone.
span as (
    select
        date_trunc('year', min(date_day)) as first_day,
        date_trunc('year', {{ as_of_date() }}) + interval '2 years' - interval '1 day' as last_day
    from used_dates
    where date_day between {{ as_of_date() }} - interval '30 years' and {{ as_of_date() }}
),

days as (
    select cast(calendar.day_start as date) as date_day
    from span
    cross join lateral generate_series(span.first_day, span.last_day, interval '1 day') as calendar (day_start)
    union
    select date_day from used_dates
)

select
    date_day,
    cast(date_trunc('month', date_day) as date) as month_start,
    cast(extract(year from date_day) as integer) as calendar_year,
    cast(extract(quarter from date_day) as integer) as calendar_quarter,
    cast(extract(month from date_day) as integer) as calendar_month,
    cast(extract(isodow from date_day) as integer) as iso_weekday,
    to_char(date_day, 'FMDay') as weekday_name,
    extract(isodow from date_day) >= 6 as is_weekend
from days
