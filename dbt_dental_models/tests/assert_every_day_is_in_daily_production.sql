-- The calendar between the first entry and the as-of date has no gap: a closed day is a row of zeros.
select
    min(date_day) as first_day,
    count(*) as day_count
from {{ ref('mart_daily_production') }}
where date_day between {{ as_of_date() }} - interval '30 years' and {{ as_of_date() }}
having count(*) <> {{ as_of_date() }} - min(date_day) + 1
