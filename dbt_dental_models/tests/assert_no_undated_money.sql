-- Money without a date is in the balances but in no day's figures.
select
    entry_type,
    source_id
from {{ ref('int_ledger_entries') }}
where entry_date is null and amount <> 0
