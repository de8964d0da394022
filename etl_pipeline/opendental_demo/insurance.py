"""Estimates, claims, and what the carriers answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random

from opendental_demo.catalogue import BY_CODE, DEDUCTIBLE, PLAN_PAYS, YEARLY_MAXIMUM
from opendental_demo.ledger import Account, dollars
from opendental_demo.office_hours import next_open
from opendental_demo.people import Coverage, Person
from opendental_demo.store import Store

_BLANK = -1.0


@dataclass(frozen=True)
class Estimate:
    """Cents; `percent` of the allowed fee."""

    pays: int
    writes_off: int
    deductible: int
    percent: int


@dataclass
class Line:
    """One claimproc of a claim."""

    claimproc: int
    account: Account
    estimate: Estimate


@dataclass
class Claim:
    """A claim on its way; `second` waits for the answer of the first plan."""

    num: int
    person: Person
    coverage: Coverage
    lines: list[Line] = field(default_factory=list)
    second: Claim | None = None


class Insurance:
    """Claims in flight by the day on which their carrier answers."""

    def __init__(self, store: Store, rng: Random, pay_kinds: tuple[int, int]) -> None:
        self.store = store
        self.rng = rng
        self.pay_kinds = pay_kinds
        self.answers: dict[date, list[Claim]] = {}
        self.supplements: dict[date, list[tuple[Claim, Line, int]]] = {}
        self.estimates: dict[int, list[int]] = {}

    def estimate(self, person: Person, cover: Coverage, code: str, fee: int, year: int) -> Estimate:
        percent = PLAN_PAYS.get(BY_CODE[code].cover, 0)
        allowed = fee * cover.allowed // 100
        key = (cover.plan, year)
        left = DEDUCTIBLE - person.deducted.get(key, 0)
        deductible = min(left, allowed) if 0 < percent < 100 else 0
        left = YEARLY_MAXIMUM - person.used.get(key, 0)
        pays = max(0, min((allowed - deductible) * percent // 100, left))
        return Estimate(pays, fee - allowed if cover.ppo and percent else 0, deductible, percent)

    def expect(self, person: Person, proc: int, code: str, fee: int, day: date) -> None:
        """Estimates (Status 6) for a planned procedure, one for each plan."""
        for cover in person.coverages:
            guess = self.estimate(person, cover, code, fee, day.year)
            number = self._claimproc(person, cover, proc, code, fee, guess, day, Status=6)
            self.estimates.setdefault(proc, []).append(number)

    def forget(self, proc: int) -> None:
        """The procedure was deleted or the plan changed: its estimates are deleted for good."""
        for number in self.estimates.pop(proc, ()):
            self.store.delete("claimproc", number)

    def file(
        self, person: Person, accounts: list[tuple[Account, str]], day: date, provider: int
    ) -> None:
        """Claims for the procedures of one visit, one for each plan of the patient."""
        covered = [(a, c) for a, c in accounts if BY_CODE[c].cover in PLAN_PAYS]
        first: Claim | None = None
        for account, _ in covered:
            # Recalculated on completion: the old estimates go, the claim's lines come.
            self.forget(account.proc)
        for ordinal, cover in enumerate(person.coverages[:2] if covered else ()):
            claim = self._claim(person, cover, covered, day, provider, ordinal)
            if first is None:
                first = claim
                for line in claim.lines:
                    line.account.pending = line.estimate.pays + line.estimate.writes_off
                # A few are never answered, and stay outstanding.
                if self.rng.random() > 0.03:
                    self._await(claim, day)
            else:
                first.second = claim

    def preauthorize(
        self, person: Person, proc: int, code: str, fee: int, day: date, provider: int
    ) -> None:
        """Ask the first plan beforehand; no money ever moves on such a claim."""
        cover = person.coverages[0]
        guess = self.estimate(person, cover, code, fee, day.year)
        claim = self.store.insert(
            "claim",
            **self._claim_row(person, cover, day, provider, "PreAuth", "S", fee, guess.pays),
        )
        self._claimproc(person, cover, proc, code, fee, guess, day, Status=2, ClaimNum=claim)

    def receive(self, day: date) -> list[Person]:
        """Today's answers, one check for each carrier; the patients whose share is known now."""
        heard: list[Person] = []
        checks: dict[int, list[tuple[Claim, Line, int, int]]] = {}
        for claim in self.answers.pop(day, ()):
            denied = self.rng.random() < 0.03
            for line in claim.lines:
                paid, off = line.estimate.pays, line.estimate.writes_off
                if denied:
                    paid = off = 0
                elif self.rng.random() < 0.06:
                    paid = paid * 8 // 10
                    if self.rng.random() < 0.5 and paid:
                        later = next_open(day + timedelta(days=self.rng.randrange(15, 45)))
                        rest = line.estimate.pays - paid
                        self.supplements.setdefault(later, []).append((claim, line, rest))
                elif self.rng.random() < 0.004 and paid > 5000:
                    # The carrier finds an error later and takes money back.
                    later = next_open(day + timedelta(days=self.rng.randrange(60, 120)))
                    self.supplements.setdefault(later, []).append((claim, line, -(paid // 2)))
                checks.setdefault(claim.coverage.carrier, []).append((claim, line, paid, off))
            heard.append(claim.person)
        for carrier, lines in checks.items():
            self._check(carrier, lines, day)
        for claim, line, paid in self.supplements.pop(day, ()):
            self._supplement(claim, line, paid, day)
        return heard

    def _await(self, claim: Claim, day: date) -> None:
        answer = next_open(day + timedelta(days=int(self.rng.triangular(6, 60, 16))))
        self.answers.setdefault(answer, []).append(claim)

    def _check(self, carrier: int, lines: list[tuple[Claim, Line, int, int]], day: date) -> None:
        total = sum(paid for _, _, paid, _ in lines)
        payment = self._claimpayment(carrier, total, day) if total else 0
        claims: dict[int, list[tuple[Claim, Line, int, int]]] = {}
        for claim, line, paid, off in lines:
            line.account.insured += paid
            line.account.written_off += off
            line.account.pending = 0
            key = (claim.coverage.plan, line.account.day.year)
            claim.person.used[key] = claim.person.used.get(key, 0) + paid
            self.store.update(
                "claimproc", line.claimproc, Status=1, InsPayAmt=dollars(paid),
                WriteOff=dollars(off), DedApplied=dollars(line.estimate.deductible), DateCP=day,
                DateEntry=day, ClaimPaymentNum=payment, PaymentRow=1 if payment else 0,
                DateInsFinalized=day,
            )  # fmt: skip
            claims.setdefault(claim.num, []).append((claim, line, paid, off))
        for own in claims.values():
            self._answered(own, day)
            if total and self.rng.random() < 0.006:
                self._by_total(own[0][0], own[0][1], day)

    def _answered(self, lines: list[tuple[Claim, Line, int, int]], day: date) -> None:
        claim = lines[0][0]
        self.store.update(
            "claim", claim.num, ClaimStatus="R", DateReceived=day,
            InsPayAmt=dollars(sum(paid for _, _, paid, _ in lines)),
            WriteOff=dollars(sum(off for *_, off in lines)),
            DedApplied=dollars(sum(line.estimate.deductible for _, line, *_ in lines)),
        )  # fmt: skip
        if claim.second is not None:
            self._send_second(claim.second, day)

    def _send_second(self, claim: Claim, day: date) -> None:
        """The second plan is asked for what the first one left."""
        for line in claim.lines:
            pays = min(line.estimate.pays, max(0, line.account.owed))
            line.estimate = Estimate(pays, 0, line.estimate.deductible, line.estimate.percent)
            line.account.pending = pays
            self.store.update(
                "claimproc", line.claimproc, InsPayEst=dollars(pays), InsEstTotal=dollars(pays)
            )
        total = sum(line.estimate.pays for line in claim.lines)
        self.store.update(
            "claim", claim.num, ClaimStatus="S", DateSent=day, DateSentOrig=day,
            InsPayEst=dollars(total),
        )  # fmt: skip
        self._await(claim, day)

    def _by_total(self, claim: Claim, line: Line, day: date) -> None:
        """A payment for the claim as a whole, on no procedure (ProcNum 0)."""
        amount = self.rng.randrange(10, 40) * 100
        self._copy_line(claim, line, amount, day, ProcNum=0, Status=1, CodeSent="")

    def _supplement(self, claim: Claim, line: Line, paid: int, day: date) -> None:
        self._copy_line(claim, line, paid, day, Status=4, DateSuppReceived=day)

    def _copy_line(self, claim: Claim, line: Line, paid: int, day: date, **values: object) -> None:
        """Another claimproc of the claim with a check of its own."""
        payment = self._claimpayment(claim.coverage.carrier, paid, day)
        row = self.store.rows["claimproc"][line.claimproc]
        copied = {k: v for k, v in row.items() if k not in ("ClaimProcNum", "SecDateTEdit")}
        changed = {
            "InsPayAmt": dollars(paid), "InsPayEst": 0.0, "WriteOff": 0.0, "DedApplied": 0.0,
            "DateCP": day, "DateEntry": day, "ClaimPaymentNum": payment, "SecDateEntry": day,
            "FeeBilled": 0.0, "DateInsFinalized": day,
        }  # fmt: skip
        self.store.insert("claimproc", **{**copied, **changed, **values})
        line.account.insured += paid
        claim_row = self.store.rows["claim"][claim.num]
        total = round(claim_row["InsPayAmt"] * 100) + paid
        self.store.update("claim", claim.num, InsPayAmt=dollars(total))

    def _claimpayment(self, carrier: int, amount: int, day: date) -> int:
        return self.store.insert(
            "claimpayment", CheckDate=day, CheckAmt=dollars(amount),
            CheckNum=str(self.rng.randrange(10000, 99999)), Note="",
            CarrierName=self.store.rows["carrier"][carrier]["CarrierName"], DateIssued=day,
            IsPartial=0, PayType=self.rng.choice(self.pay_kinds), SecDateEntry=day,
        )  # fmt: skip

    def _claim(
        self, person: Person, cover: Coverage, covered: list[tuple[Account, str]], day: date,
        provider: int, ordinal: int,
    ) -> Claim:  # fmt: skip
        guesses = []
        for account, code in covered:
            guess = self.estimate(person, cover, code, account.fee, day.year)
            key = (cover.plan, day.year)
            person.deducted[key] = person.deducted.get(key, 0) + guess.deductible
            guesses.append((account, code, guess))
        fee = sum(account.fee for account, _ in covered)
        pays = sum(guess.pays for *_, guess in guesses)
        kind, status = ("P", "S") if ordinal == 0 else ("S", "H")
        row = self._claim_row(person, cover, day, provider, kind, status, fee, pays)
        claim = Claim(self.store.insert("claim", **row), person, cover)
        for number, (account, code, guess) in enumerate(guesses, start=1):
            claimproc = self._claimproc(
                person, cover, account.proc, code, account.fee, guess, day, Status=0,
                ClaimNum=claim.num, FeeBilled=dollars(account.fee), LineNumber=number,
                CodeSent=code,
            )  # fmt: skip
            claim.lines.append(Line(claimproc, account, guess))
        return claim

    def _claim_row(
        self, person: Person, cover: Coverage, day: date, provider: int, kind: str, status: str,
        fee: int, pays: int,
    ) -> dict[str, object]:  # fmt: skip
        sent = {"DateSent": day, "DateSentOrig": day} if status == "S" else {}
        other = person.coverages[1] if kind == "P" and len(person.coverages) > 1 else None
        return {
            "PatNum": person.num, "DateService": day, "ClaimStatus": status, "ClaimType": kind,
            "PlanNum": cover.plan, "InsSubNum": cover.inssub, "ProvTreat": provider,
            "ProvBill": provider, "ClaimFee": dollars(fee), "InsPayEst": dollars(pays),
            "InsPayAmt": 0.0, "WriteOff": 0.0, "DedApplied": 0.0, "ClaimNote": "",
            "PlanNum2": other.plan if other else 0, "InsSubNum2": other.inssub if other else 0,
            "SecDateEntry": day, "ClaimIdentifier": f"{person.num}/{day:%y%m%d}", **sent,
        }  # fmt: skip

    def _claimproc(
        self, person: Person, cover: Coverage, proc: int, code: str, fee: int, guess: Estimate,
        day: date, **values: object,
    ) -> int:  # fmt: skip
        provider = self.store.rows["procedurelog"][proc]["ProvNum"]
        row = {
            "ProcNum": proc, "ClaimNum": 0, "PatNum": person.num, "ProvNum": provider,
            "FeeBilled": 0.0, "InsPayEst": dollars(guess.pays), "DedApplied": 0.0, "InsPayAmt": 0.0,
            "WriteOff": 0.0, "ClaimPaymentNum": 0, "PlanNum": cover.plan,
            "InsSubNum": cover.inssub, "DateCP": day, "ProcDate": day, "CodeSent": "",
            "AllowedOverride": _BLANK, "Percentage": guess.percent, "CopayAmt": _BLANK,
            "PaidOtherIns": _BLANK, "BaseEst": dollars(guess.pays), "CopayOverride": _BLANK,
            "DedEst": dollars(guess.deductible), "DedEstOverride": _BLANK,
            "InsEstTotal": dollars(guess.pays), "InsEstTotalOverride": _BLANK,
            "PaidOtherInsOverride": _BLANK, "EstimateNote": "",
            "WriteOffEst": dollars(guess.writes_off) if cover.ppo else _BLANK,
            "WriteOffEstOverride": _BLANK, "LineNumber": 0, "SecDateEntry": day,
        }  # fmt: skip
        return self.store.insert("claimproc", **{**row, **values})
