"""Money between patients and the practice, in whole cents until it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from random import Random

from opendental_demo.store import Store

Definitions = dict[tuple[int, str], int]


def dollars(cents: int) -> float:
    return round(cents / 100, 2)


@dataclass(slots=True)
class Account:
    """One completed procedure: what it cost and who has paid what of it.

    Attributes:
        adjusted: signed; pending: expected from insurance (payment and write-off).
    """

    proc: int
    patient: int
    provider: int
    day: date
    fee: int
    pending: int = 0
    adjusted: int = 0
    insured: int = 0
    written_off: int = 0
    paid: int = 0

    @property
    def balance(self) -> int:
        return self.fee + self.adjusted - self.insured - self.written_off - self.paid

    @property
    def owed(self) -> int:
        """What the patient has to pay now."""
        return self.balance - self.pending


class Ledger:
    """Accounts by family (guarantor), and the payment, paysplit and adjustment rows."""

    def __init__(self, store: Store, rng: Random, definitions: Definitions) -> None:
        self.store = store
        self.rng = rng
        self.definitions = definitions
        self.families: dict[int, list[Account]] = {}
        self.prepaid: dict[int, int] = {}
        self.family_of: dict[int, int] = {}

    def charge(self, family: int, account: Account) -> None:
        self.families.setdefault(family, []).append(account)
        self.family_of[account.patient] = family

    def owing(self, family: int) -> list[Account]:
        return [a for a in self.families.get(family, ()) if a.owed > 0]

    def pay(self, family: int, day: date, accounts: Iterable[Account], amount: int) -> int:
        """Take up to `amount` for `accounts`, oldest first; PayNum, or 0 when nothing is owed."""
        parts = []
        for account in accounts:
            part = min(account.owed, amount)
            if part > 0:
                parts.append((account, part))
                amount -= part
        if not parts:
            return 0
        kind = self.rng.choices(("Credit card", "Check", "Cash"), (70, 22, 8))[0]
        number = self._payment(family, day, sum(part for _, part in parts), kind)
        for account, part in parts:
            account.paid += part
            self._split(number, day, account.patient, account.provider, account.proc, part)
        return number

    def prepay(self, family: int, patient: int, day: date, amount: int) -> None:
        """Money before the treatment: unearned, on no procedure."""
        number = self._payment(family, day, amount, "Credit card")
        unearned = self.definitions[29, "Prepayment"]
        self._split(number, day, patient, 0, 0, amount, unearned)
        self.prepaid[patient] = self.prepaid.get(patient, 0) + amount
        self.family_of[patient] = family

    def earn(self, account: Account, day: date) -> None:
        """An income transfer: PayType 0, amount 0, two splits that cancel out."""
        amount = min(self.prepaid.get(account.patient, 0), account.owed)
        if amount <= 0:
            return
        number = self._payment(account.patient, day, 0, None)
        unearned = self.definitions[29, "Prepayment"]
        self._split(number, day, account.patient, 0, 0, -amount, unearned)
        self._split(number, day, account.patient, account.provider, account.proc, amount)
        self.prepaid[account.patient] -= amount
        account.paid += amount

    def refund(self, family: int, day: date) -> None:
        """Give back what was paid beyond what was owed."""
        for account in self.families.get(family, ()):
            over = -account.owed
            if over > 0 and account.paid >= over:
                number = self._payment(family, day, -over, "Patient refund")
                self._split(number, day, account.patient, account.provider, account.proc, -over)
                account.paid -= over

    def adjust(self, account: Account, day: date, amount: int, kind: str) -> None:
        account.adjusted += amount
        self.store.insert(
            "adjustment", AdjDate=day, AdjAmt=dollars(amount), PatNum=account.patient,
            AdjType=self.definitions[1, kind], ProvNum=account.provider, AdjNote="",
            ProcDate=account.day, ProcNum=account.proc, DateEntry=day,
        )  # fmt: skip

    def split_again(self, payment: int) -> None:
        """The front desk re-allocates a payment: its splits are deleted and written anew."""
        old = [(k, r) for k, r in self.store.rows["paysplit"].items() if r["PayNum"] == payment]
        for key, _ in old:
            self.store.delete("paysplit", key)
        for _, row in old:
            self.store.insert("paysplit", **row)

    def age(self, day: date) -> None:
        """The nightly aging: own balance on each patient, family buckets on the guarantor."""
        balances: dict[int, int] = {}
        prepaid: dict[int, int] = {}
        for patient, amount in self.prepaid.items():
            family = self.family_of[patient]
            prepaid[family] = prepaid.get(family, 0) + amount
        for family, accounts in self.families.items():
            buckets = [0, 0, 0, 0]
            credit = expected = 0
            for account in accounts:
                balance = account.balance
                balances[account.patient] = balances.get(account.patient, 0) + balance
                expected += account.pending
                if balance > 0:
                    buckets[min((day - account.day).days // 30, 3)] += balance
                else:
                    credit -= balance
            credit += prepaid.get(family, 0)
            total = sum(buckets) - credit
            for index in (3, 2, 1, 0):
                used = min(credit, buckets[index])
                buckets[index] -= used
                credit -= used
            names = ("Bal_0_30", "Bal_31_60", "Bal_61_90", "BalOver90")
            values = {name: dollars(cents) for name, cents in zip(names, buckets, strict=True)}
            self.store.update(
                "patient", family, BalTotal=dollars(total), InsEst=dollars(expected), **values
            )
        for patient in self.family_of:
            own = balances.get(patient, 0) - self.prepaid.get(patient, 0)
            self.store.update("patient", patient, EstBalance=dollars(own))

    def _payment(self, patient: int, day: date, amount: int, kind: str | None) -> int:
        return self.store.insert(
            "payment", PayType=self.definitions[10, kind] if kind else 0, PayDate=day,
            PayAmt=dollars(amount), CheckNum=str(self.rng.randrange(100, 9999)) if kind == "Check"
            else "", PayNote="", PatNum=patient, DateEntry=day, Receipt="",
        )  # fmt: skip

    def _split(
        self, payment: int, day: date, patient: int, provider: int, proc: int, amount: int,
        unearned: int = 0,
    ) -> None:  # fmt: skip
        self.store.insert(
            "paysplit", SplitAmt=dollars(amount), PatNum=patient, PayNum=payment, ProvNum=provider,
            DatePay=day, ProcNum=proc, DateEntry=day, UnearnedType=unearned,
        )  # fmt: skip
