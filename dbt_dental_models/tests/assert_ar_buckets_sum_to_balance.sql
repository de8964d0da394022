select guarantor_id
from {{ ref('mart_ar_aging') }}
where
    balance_0_30 + balance_31_60 + balance_61_90 + balance_over_90 <> greatest(balance, 0)
    or amount_owed - credit_balance <> balance
    or least(amount_owed, credit_balance) <> 0
