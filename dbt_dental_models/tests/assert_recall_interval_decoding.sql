with decoded as (
    select
        {{ recall_interval('packed') }} as actual,
        expected
    from (
        values
        (393216, interval '6 months'),
        (393217, interval '6 months 1 day'),
        (196609, interval '3 months 1 day'),
        (16777217, interval '1 year 1 day'),
        (83886081, interval '5 years 1 day'),
        (512, interval '14 days')
    ) as examples (packed, expected)
)

select * from decoded
where actual <> expected
