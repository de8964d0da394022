//! What the marts say against what the source says.

use crate::stack::Stack;

/// The same figures from the source and from the marts, by queries that share
/// nothing with the models.
pub(crate) fn assert_marts_agree_with_the_source(stack: &Stack) {
    let as_of = stack.query(
        "analytics",
        "select max(as_of_date) from marts.mart_ar_aging",
    );
    for (what, source, marts) in figures(&as_of) {
        let expected = stack.query("source", &source);
        assert_eq!(stack.query("analytics", marts), expected, "{what}");
        assert!(
            expected
                .split(' ')
                .any(|figure| !figure.trim_matches(['0', '.']).is_empty()),
            "{what} is all zero, so it proves nothing: {expected}"
        );
    }
}

fn figures(as_of: &str) -> [(&'static str, String, &'static str); 4] {
    let ledger = format!(
        "select PatNum, cast(ProcFee as decimal(14,2)) * greatest(1, BaseUnits + UnitQty) as amount
           from procedurelog where ProcStatus = 2 and ProcDate <= '{as_of}'
         union all select PatNum, cast(AdjAmt as decimal(14,2)) from adjustment where AdjDate <= '{as_of}'
         union all select PatNum, -cast(SplitAmt as decimal(14,2)) from paysplit where DatePay <= '{as_of}'
         union all select PatNum, -cast(InsPayAmt as decimal(14,2)) - cast(WriteOff as decimal(14,2))
           from claimproc where Status in (1, 4, 5, 7) and DateCP <= '{as_of}'"
    );
    [
        (
            "production and collections",
            "select
               (select sum(cast(ProcFee as decimal(14,2)) * greatest(1, BaseUnits + UnitQty))
                  from procedurelog where ProcStatus = 2 and ProcDate > '0001-01-01'),
               (select sum(cast(AdjAmt as decimal(14,2))) from adjustment where AdjDate > '0001-01-01'),
               (select sum(cast(SplitAmt as decimal(14,2))) from paysplit where DatePay > '0001-01-01'),
               (select sum(cast(InsPayAmt as decimal(14,2))) from claimproc
                  where Status in (1, 4, 5, 7) and DateCP > '0001-01-01')"
                .to_owned(),
            "select sum(gross_production), sum(adjustments), sum(patient_income), sum(insurance_income)
             from marts.mart_daily_production",
        ),
        (
            "balances of families",
            format!(
                "select sum(greatest(balance, 0)), sum(greatest(-balance, 0)), sum(balance <> 0)
                 from (select coalesce(nullif(p.Guarantor, 0), m.PatNum) as guarantor, sum(m.amount) as balance
                       from ({ledger}) m left join patient p on p.PatNum = m.PatNum
                       where m.PatNum <> 0 group by 1) f"
            ),
            "select sum(amount_owed), sum(credit_balance), count(*) from marts.mart_ar_aging",
        ),
        (
            "appointments kept",
            format!(
                "select count(*) from appointment where AptStatus = 2
                 and AptDateTime > '0001-01-02' and date(AptDateTime) <= '{as_of}'"
            ),
            "select sum(completed) from marts.mart_practice_no_shows",
        ),
        (
            "patients ever seen",
            format!(
                "select count(*) from patient p where p.PatStatus <> 4 and exists (
                   select 1 from procedurelog l left join procedurecode c on c.CodeNum = l.CodeNum
                   where l.PatNum = p.PatNum and l.ProcStatus = 2 and l.ProcDate > '0001-01-01'
                     and l.ProcDate <= '{as_of}' and coalesce(c.ProcCode, '') not in ('D9986', 'D9987'))"
            ),
            "select count(*) from marts.mart_patient_retention where visit_count > 0",
        ),
    ]
}
