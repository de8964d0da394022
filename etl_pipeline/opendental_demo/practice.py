"""The practice, simulated day by day: everything follows from the seed, the scale and the days.

`run_until` may be called again to go on: the books at a later date are the same, whether one got
there in one step or in many. All draws come from one generator, and no set is iterated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from math import ceil, exp
from random import Random

from opendental_demo.catalogue import BY_CODE, CODES, DEFINITIONS, FINDINGS
from opendental_demo.insurance import Insurance
from opendental_demo.ledger import Account, Ledger, dollars
from opendental_demo.office_hours import LUNCH, OPENING, closing, is_open, next_open, to_utc
from opendental_demo.people import NO_DATE, People, Person
from opendental_demo.store import Store

SCHEDULED, COMPLETE, UNSCHEDULED, BROKEN, PLANNED, NOTE = 1, 2, 3, 5, 6, 7
CREATED, CHANGED, MISSED, CANCELLED, DELETED = 0, 1, 2, 3, 4
FOUNDING_PATIENTS = 2050
NEW_FAMILIES_A_DAY = 0.68
_NOT_IN_HISTORY = ("AptNum", "DateTStamp")


@dataclass
class Visit:
    """An appointment on the schedule; `procs` are (ProcNum, code)."""

    num: int
    person: Person
    kind: str
    start: int
    minutes: int
    dentist: int
    procs: list[tuple[int, str]] = field(default_factory=list)
    new_patient: bool = False


class Practice:
    """One location with its staff, patients and books, `today` being the next day to live."""

    def __init__(self, seed: int, scale: float, start: date) -> None:
        self.store = Store()
        self.rng = Random(f"opendental-demo {seed} {scale} {start}")  # noqa: S311 - not a secret
        self.scale = scale
        self.today = start
        self.schedule: dict[date, list[Visit]] = {}
        self.agenda: dict[date, list[Callable[[date], None]]] = {}
        self.filled: dict[tuple[date, int], int] = {}
        self.lapsed: list[Person] = []
        self.families: list[list[Person]] = []
        self._found(start)

    def run_until(self, end: date) -> None:
        """Live every day before `end`, then age the accounts as of `end`."""
        while self.today < end:
            if is_open(self.today):
                self._day(self.today)
            self.today += timedelta(days=1)
        self.store.now = to_utc(end - timedelta(days=1), 23 * 60)
        self.ledger.age(end)

    # --- opening the books -------------------------------------------------------------------

    def _found(self, start: date) -> None:
        store, rng = self.store, self.rng
        opened = start - timedelta(days=30)
        self._clock(opened, 8 * 60)
        self.definitions: dict[tuple[int, str], int] = {}
        for order, (category, name, value) in enumerate(DEFINITIONS):
            self.definitions[category, name] = store.insert(
                "definition", Category=category, ItemOrder=order, ItemName=name, ItemValue=value,
                ItemColor=-1,
            )  # fmt: skip
        for name, text in (
            ("DataBaseVersion", "24.3.10.0"), ("EasyNoClinics", "1"), ("RandomPrimaryKeys", "0"),
            ("UpdateInProgressOnComputerName", ""),
        ):  # fmt: skip
            store.insert("preference", PrefName=name, ValueString=text)
        count = max(2, ceil(4 * self.scale))
        self.dentists = [self._provider(f"DEN{i + 1}", 0) for i in range(count)]
        self.hygienists = [self._provider(f"HYG{i + 1}", 1) for i in range(count)]
        self.chairs = {
            "restore": [self._chair(i, dentist, 0) for i, dentist in enumerate(self.dentists)],
            "hygiene": [self._chair(i, 0, hyg) for i, hyg in enumerate(self.hygienists)],
        }
        self.codes = {code.code: self._code(code.code) for code in CODES}
        self.people = People(
            store, rng, self.definitions[4, "Standard account"], self.dentists, self.hygienists
        )
        self.people.open_plans(opened)
        self.ledger = Ledger(store, rng, self.definitions)
        kinds = (self.definitions[32, "Insurance check"], self.definitions[32, "Insurance EFT"])
        self.insurance = Insurance(store, rng, kinds)
        while len(self.people.all) < FOUNDING_PATIENTS * self.scale:
            for person in self._join(start, earlier=True):
                if person.treated:
                    self._take_over(person, start)
        self._orphans(opened)

    def _orphans(self, day: date) -> None:
        """Rows that point nowhere, as old merges left them: no database forbids it."""
        nobody = 9_000_001
        payment = self.store.insert(
            "payment", PayType=self.definitions[10, "Check"], PayDate=day, PayAmt=30.0, CheckNum="",
            PayNote="", PatNum=nobody, DateEntry=day, Receipt="",
        )  # fmt: skip
        for patient, provider, amount in ((nobody, self.dentists[0], 20.0), (nobody, nobody, 10.0)):
            self.store.insert(
                "paysplit", SplitAmt=amount, PatNum=patient, PayNum=payment, ProvNum=provider,
                DatePay=day, ProcNum=0, DateEntry=day, UnearnedType=0,
            )  # fmt: skip

    def _provider(self, abbr: str, secondary: int) -> int:
        name = "Hygienist" if secondary else "Dentist"
        return self.store.insert(
            "provider", Abbr=abbr, LName=f"Demo{abbr.title()}", FName=name, IsSecondary=secondary,
            Suffix="RDH" if secondary else "DMD", SigOnFile=1, HourlyProdGoalAmt=150.0,
            Specialty=self.definitions[35, "Hygienist" if secondary else "General dentist"],
        )  # fmt: skip

    def _chair(self, number: int, dentist: int, hygienist: int) -> tuple[int, int, int]:
        name = f"{'Hygiene' if hygienist else 'Chair'} {number + 1}"
        op = self.store.insert(
            "operatory", OpName=name, Abbrev=f"{name[0]}{number + 1}", ProvDentist=dentist,
            ProvHygienist=hygienist, IsHygiene=int(hygienist > 0),
        )  # fmt: skip
        return op, dentist, hygienist

    def _code(self, name: str) -> int:
        code = BY_CODE[name]
        category = {"0": "Exams and x-rays", "1": "Cleanings", "7": "Surgery"}.get(name[1], "Other")
        if name.startswith("D23"):
            category = "Fillings"
        return self.store.insert(
            "procedurecode", ProcCode=name, Descript=code.text, AbbrDesc=code.text[:20],
            ProcTime="X" * (code.minutes // 5), ProcCat=self.definitions[11, category],
            TreatArea=code.area, IsHygiene=int(code.hygiene), NoBillIns=int(code.cover == "N"),
            LaymanTerm=code.text, DefaultNote="", SubstitutionCode="",
        )  # fmt: skip

    def _join(self, day: date, *, earlier: bool) -> list[Person]:
        family = self.people.new_family(day, earlier=earlier)
        self.families.append(family)
        return family

    def _take_over(self, person: Person, start: date) -> None:
        """A patient from before the books begin: due for recall, lapsed, or gone."""
        rng = self.rng
        due = start + timedelta(days=rng.randrange(-150, 200))
        previous = due - timedelta(days=person.months * 30)
        person.last_visit = previous
        self._set_recall(person, previous, due)
        chance = rng.random()
        if chance < 0.16:
            status = rng.choices((2, 3, 4, 5), (80, 12, 3, 5))[0]
            self._leave(person, previous, status)
        elif chance < 0.84:
            self._book_hygiene(person, max(due, start + timedelta(days=rng.randrange(1, 60))))
        else:
            self.lapsed.append(person)

    # --- a day -------------------------------------------------------------------------------

    def _day(self, day: date) -> None:
        rng = self.rng
        self._clock(day, 7 * 60 + 30)
        for action in self.agenda.pop(day, ()):
            action(day)
        for person in self.insurance.receive(day):
            self._later(day, rng.randrange(2, 12), self._statement(person.guarantor, 1))
        if not any(is_open(date(day.year, day.month, d)) for d in range(1, day.day)):
            self._month(day)
        for _ in range(self._count(NEW_FAMILIES_A_DAY * self.scale)):
            for person in self._join(day, earlier=False):
                if person.treated:
                    self._book_new(person, day + timedelta(days=rng.randrange(1, 18)))
        for _ in range(self._count(0.6 * self.scale)):
            self._emergency(day)
        for _ in range(self._count(2.0 * self.scale)):
            self._call_lapsed(day)
        for visit in sorted(self.schedule.pop(day, ()), key=lambda v: (v.start, v.num)):
            self._clock(day, visit.start + visit.minutes)
            self._visit(day, visit)
        self._clock(day, closing(day))
        confirmed = self.definitions[2, "Confirmed"]
        for visit in self.schedule.get(next_open(day + timedelta(days=1)), ()):
            if rng.random() < 0.8:
                self.store.update("appointment", visit.num, Confirmed=confirmed)

    def _month(self, day: date) -> None:
        """Once a month: who stays away is set inactive, who changes jobs changes plans."""
        rng = self.rng
        for person in list(self.lapsed):
            away = (day - (person.last_visit or day)).days
            if away > 540 and not person.booked and rng.random() < 0.2:
                status = rng.choices((2, 3, 5), (90, 7, 3))[0]
                self._leave(person, day, status)
                self.lapsed.remove(person)
        changes = 0.04 if day.month == 1 else 0.003
        for family in self.families:
            if family[0].coverages and rng.random() < changes:
                self.people.drop_plans(family, day)
                if rng.random() < 0.8:
                    self.people.insure(family, day, ordinal=1)

    def _leave(self, person: Person, day: date, status: int) -> None:
        person.gone = True
        values: dict[str, object] = {"PatStatus": status}
        if status == 5:
            values["DateTimeDeceased"] = datetime.combine(day, time())
        self.store.update("patient", person.num, **values)
        self.store.update("recall", person.recall, IsDisabled=1)

    # --- the schedule ------------------------------------------------------------------------

    def _slot(self, kind: str, target: date, minutes: int, prefer: int) -> tuple[date, int, int]:
        """The first free (day, chair index, start) at or after `target`."""
        chairs = self.chairs[kind]
        day = next_open(max(target, self.today))
        while True:
            working = len(chairs) if day.weekday() < 4 else max(1, len(chairs) // 2)
            for offset in range(working):
                index = (prefer + offset) % working
                start = self.filled.get((day, chairs[index][0]), OPENING)
                if start < LUNCH[1] and start + minutes > LUNCH[0]:
                    start = LUNCH[1]
                if start + minutes <= closing(day):
                    return day, index, start
            day = next_open(day + timedelta(days=1))

    def _book(
        self, person: Person, kind: str, target: date, codes: list[str], *,
        procs: list[tuple[int, str]] | None = None, new: bool = False, planned: int = 0,
    ) -> Visit:  # fmt: skip
        """An appointment with its procedures, which stand as treatment planned until the day."""
        every = [code for _, code in procs or ()] + codes
        minutes = max(20, sum(BY_CODE[code].minutes for code in every))
        chair = "hygiene" if kind == "hygiene" else "restore"
        prefer = (person.hygienist if chair == "hygiene" else person.dentist) % len(self.dentists)
        day, index, start = self._slot(chair, target, min(minutes, 180), prefer)
        minutes = min(minutes, 180)
        op, dentist, hygienist = self.chairs[chair][index]
        self.filled[day, op] = start + minutes
        dentist = dentist or person.dentist
        at = datetime.combine(day, time(*divmod(start, 60)))
        num = self.store.insert(
            "appointment", PatNum=person.num, AptStatus=SCHEDULED, AptDateTime=at, Op=op,
            Pattern="/" + "X" * (minutes // 5 - 2) + "/", ProvNum=dentist, ProvHyg=hygienist,
            Confirmed=self.definitions[2, "Unconfirmed"], IsNewPatient=int(new),
            IsHygiene=int(hygienist > 0), ProcDescript=", ".join(every)[:255], Note="",
            NextAptNum=planned, SecDateTEntry=self.local,
        )  # fmt: skip
        self._history(num, CREATED)
        visit = Visit(num, person, kind, start, minutes, dentist, list(procs or ()), new)
        for proc, _ in visit.procs:
            self.store.update("procedurelog", proc, AptNum=num)
        for code in codes:
            provider = hygienist if BY_CODE[code].hygiene and hygienist else dentist
            visit.procs.append((self._plan_proc(person, code, provider, num), code))
        self.schedule.setdefault(day, []).append(visit)
        if kind == "hygiene":
            person.booked = True
            self.store.update("recall", person.recall, DateScheduled=day)
        return visit

    def _book_hygiene(self, person: Person, target: date) -> None:
        rng = self.rng
        if person.is_child(target):
            codes = ["D0120", "D1120", "D1206"] + (["D1351"] if rng.random() < 0.1 else [])
        else:
            codes = ["D0120", "D4910" if person.perio else "D1110"]
        codes += rng.choices(([], ["D0274"], ["D0272"], ["D0330"]), (45, 40, 8, 7))[0]
        self._book(person, "hygiene", target, codes)

    def _book_new(self, person: Person, target: date) -> None:
        cleaning = "D1120" if person.is_child(target) else "D1110"
        xrays = "D0272" if person.is_child(target) else self.rng.choice(("D0210", "D0330"))
        self._book(person, "hygiene", target, ["D0150", xrays, cleaning], new=True)

    def _emergency(self, day: date) -> None:
        person = self.rng.choice(self.people.all)
        if person.treated and not person.gone:
            extra = self.rng.choice((["D0220"], ["D0220", "D9110"], ["D0220", "D7140"]))
            self._book(person, "emergency", day, ["D0140", *extra])

    def _call_lapsed(self, day: date) -> None:
        if not self.lapsed:
            return
        person = self.lapsed[self.rng.randrange(len(self.lapsed))]
        answer = self.rng.random()
        if answer < 0.35:
            self.lapsed.remove(person)
            self._book_hygiene(person, day + timedelta(days=self.rng.randrange(3, 30)))
        else:
            name = "Left message" if answer < 0.8 else "Postcard sent"
            self.store.update("recall", person.recall, RecallStatus=self.definitions[13, name])

    def _plan_proc(self, person: Person, code: str, provider: int, apt: int) -> int:
        rng = self.rng
        tooth = str(rng.randrange(1, 33)) if BY_CODE[code].area in (1, 2) else ""
        surface = rng.choice(("O", "MO", "DO", "MOD", "B")) if BY_CODE[code].area == 1 else ""
        # Fees drift from year to year; a few are set by hand.
        fee = BY_CODE[code].fee * (100 + 3 * (self.today.year - 2020)) // 100 // 100 * 100
        fee = fee * rng.randrange(80, 120) // 100 if rng.random() < 0.02 else fee
        proc = self.store.insert(
            "procedurelog", PatNum=person.num, AptNum=apt, ProcDate=self.today,
            ProcFee=dollars(fee), ToothNum=tooth, Surf=surface, ProcStatus=1, ProvNum=provider,
            CodeNum=self.codes[code], UnitQty=1, DateTP=self.today, DateEntryC=NO_DATE,
            DateComplete=NO_DATE,
            SecDateEntry=self.local, ProcTime="00:00:00", PlannedAptNum=0,
            Priority=self.definitions[20, "Next"] if BY_CODE[code].cover in "BM" else 0,
        )  # fmt: skip
        if BY_CODE[code].cover != "N":
            self.insurance.expect(person, proc, code, fee, self.today)
        return proc

    def _history(self, apt: int, action: int) -> None:
        row = self.store.rows["appointment"][apt]
        copied = {k: v for k, v in row.items() if k not in _NOT_IN_HISTORY}
        self.store.insert(
            "histappointment", AptNum=apt, HistApptAction=action, HistDateTStamp=self.local,
            **copied,
        )  # fmt: skip

    # --- what happens to an appointment ------------------------------------------------------

    def _visit(self, day: date, visit: Visit) -> None:
        fate = self.rng.random() if visit.kind != "emergency" else 0.0
        if fate < 0.868:
            self._complete(day, visit)
        elif fate < 0.93:
            self._break(day, visit)
        elif fate < 0.965:
            self._move(day, visit)
        elif fate < 0.985:
            self._unschedule(visit)
        elif fate < 0.997:
            self._cancel_for_good(visit)
        # else: the front desk forgot it, and it stays scheduled in the past.

    def _complete(self, day: date, visit: Visit) -> None:
        rng, person = self.rng, visit.person
        start = datetime.combine(day, time(*divmod(visit.start, 60)))
        arrived = start - timedelta(minutes=rng.randrange(0, 15))
        seated = start + timedelta(minutes=rng.randrange(0, 12))
        plans = [c.plan for c in person.coverages[:2]] + [0, 0]
        self.store.update(
            "appointment", visit.num, AptStatus=COMPLETE, DateTimeArrived=arrived,
            DateTimeSeated=seated, DateTimeDismissed=seated + timedelta(minutes=visit.minutes),
            Confirmed=self.definitions[2, "Arrived"], InsPlan1=plans[0], InsPlan2=plans[1],
        )  # fmt: skip
        if visit.new_patient:
            self._existing_work(day, person)
        found = self._exam(day, visit) if visit.kind == "hygiene" else []
        done = visit.procs + found
        accounts = [(self._complete_proc(day, person, proc, code), code) for proc, code in done]
        self.insurance.file(person, accounts, day, visit.dentist)
        self._checkout(day, person, [account for account, _ in accounts])
        if person.last_visit is None or visit.new_patient:
            self.store.update("patient", person.num, DateFirstVisit=day)
        person.last_visit = day
        if visit.kind == "hygiene":
            person.booked = False
            due = day + timedelta(days=person.months * 30 + 3)
            self._set_recall(person, day, due)
            if rng.random() < (0.8 if visit.new_patient else 0.92):
                self._book_hygiene(person, due + timedelta(days=rng.randrange(0, 12)))
            else:
                self.lapsed.append(person)

    def _complete_proc(self, day: date, person: Person, proc: int, code: str) -> Account:
        self.store.update(
            "procedurelog", proc, ProcStatus=2, ProcDate=day, DateEntryC=day, DateComplete=day
        )
        row = self.store.rows["procedurelog"][proc]
        account = Account(proc, person.num, row["ProvNum"], day, round(row["ProcFee"] * 100))
        self.ledger.charge(person.guarantor, account)
        return account

    def _existing_work(self, day: date, person: Person) -> None:
        """What a new patient brings along: done elsewhere, referred, or a condition."""
        for _ in range(self._count(0.8)):
            code = self.rng.choice(("D2391", "D2392", "D2740", "D7140"))
            proc = self._plan_proc(person, code, person.dentist, 0)
            self.insurance.forget(proc)
            status = self.rng.choices((4, 3, 5, 7), (70, 10, 10, 10))[0]
            self.store.update("procedurelog", proc, ProcStatus=status, ProcFee=0.0, DateTP=NO_DATE)

    def _exam(self, day: date, visit: Visit) -> list[tuple[int, str]]:
        """Diagnose; returns what is done at once."""
        rng, person = self.rng, visit.person
        if rng.random() > (0.5 if visit.new_patient else 0.3):
            return []
        names, weights = zip(*FINDINGS, strict=True)
        codes = rng.choices(names, weights, k=rng.choices((1, 2, 3), (60, 28, 12))[0])
        if "D2740" in codes and rng.random() < 0.5:
            codes.append("D2950")
        if person.perio and rng.random() < 0.3:
            codes = ["D4341", "D4341"]
        procs = [(self._plan_proc(person, c, visit.dentist, 0), c) for c in codes]
        answer = rng.random()
        if answer < 0.07 and len(procs) == 1 and procs[0][1] in ("D2391", "D2330"):
            return procs
        if person.coverages and "D2740" in codes and rng.random() < 0.2:
            proc = procs[codes.index("D2740")][0]
            fee = round(self.store.rows["procedurelog"][proc]["ProcFee"] * 100)
            self.insurance.preauthorize(person, proc, "D2740", fee, day, visit.dentist)
        if answer < 0.58:
            target = day + timedelta(days=rng.randrange(5, 40))
            self._book(person, "restore", target, [], procs=procs)
            fees = sum(round(self.store.rows["procedurelog"][p]["ProcFee"] * 100) for p, _ in procs)
            if fees > 100000 and rng.random() < 0.2:
                self.ledger.prepay(person.guarantor, person.num, day, 20000)
        elif answer < 0.75:
            self._planned(day, person, procs)
        else:
            self._later(day, rng.randrange(200, 420), lambda d: self._drop(procs))
        return []

    def _planned(self, day: date, person: Person, procs: list[tuple[int, str]]) -> None:
        """A planned appointment without a date; some get one later."""
        apt = self.store.insert(
            "appointment", PatNum=person.num, AptStatus=PLANNED, Pattern="/XXXXXXXX/", Op=0,
            ProvNum=person.dentist, Note="", SecDateTEntry=self.local, ItemOrderPlanned=1,
            AptDateTime=f"{NO_DATE} 00:00:00",
        )  # fmt: skip
        for proc, _ in procs:
            self.store.update("procedurelog", proc, PlannedAptNum=apt)

        def decide(later: date) -> None:
            if not person.gone and self.rng.random() < 0.5:
                self._book(person, "restore", later, [], procs=procs, planned=apt)

        self._later(day, self.rng.randrange(30, 150), decide)

    def _drop(self, procs: list[tuple[int, str]]) -> None:
        """Treatment that was never accepted is set inactive or deleted (status 8 or 6)."""
        for proc, _ in procs:
            status = self.rng.choices((1, 8, 6), (50, 30, 20))[0]
            if status == 6:
                self.insurance.forget(proc)
            self.store.update("procedurelog", proc, ProcStatus=status)

    def _break(self, day: date, visit: Visit) -> None:
        rng, person = self.rng, visit.person
        missed = rng.random() < 0.55
        self.store.update("appointment", visit.num, AptStatus=BROKEN)
        self._history(visit.num, MISSED if missed else CANCELLED)
        if rng.random() < 0.6:
            proc = self._plan_proc(person, "D9986" if missed else "D9987", visit.dentist, visit.num)
            account = self._complete_proc(day, person, proc, "")
            if missed and rng.random() < 0.2:
                self.ledger.adjust(account, day, 5000, "Missed appointment fee")
                self._later(day, 20, self._statement(person.guarantor, 1))
        self._after_loss(day, visit, 0.0 if visit.new_patient else 0.55)

    def _after_loss(self, day: date, visit: Visit, comes_back: float) -> None:
        """The procedures of an appointment that did not take place: a new date, or dropped."""
        person = visit.person
        for proc, _ in visit.procs:
            self.store.update("procedurelog", proc, AptNum=0)
        if visit.kind == "hygiene":
            person.booked = False
            self.store.update("recall", person.recall, DateScheduled=NO_DATE)
        if self.rng.random() < comes_back:
            target = day + timedelta(days=self.rng.randrange(5, 45))
            self._book(person, visit.kind, target, [], procs=visit.procs, new=visit.new_patient)
            return
        if visit.kind == "hygiene":
            for proc, _ in visit.procs:
                self.insurance.forget(proc)
                self.store.update("procedurelog", proc, ProcStatus=6)
            if visit.new_patient:
                self.store.update("patient", person.num, PatStatus=6)
            else:
                self.lapsed.append(person)

    def _move(self, day: date, visit: Visit) -> None:
        """The same appointment on another day."""
        chair = "hygiene" if visit.kind == "hygiene" else "restore"
        target = day + timedelta(days=self.rng.randrange(2, 40))
        new_day, index, start = self._slot(chair, target, visit.minutes, 0)
        op, dentist, hygienist = self.chairs[chair][index]
        self.filled[new_day, op] = start + visit.minutes
        visit.start = start
        visit.dentist = dentist or visit.person.dentist
        at = datetime.combine(new_day, time(*divmod(start, 60)))
        self.store.update(
            "appointment", visit.num, AptDateTime=at, Op=op, ProvNum=visit.dentist,
            ProvHyg=hygienist, Confirmed=self.definitions[2, "Unconfirmed"],
        )  # fmt: skip
        self._history(visit.num, CHANGED)
        self.schedule.setdefault(new_day, []).append(visit)

    def _unschedule(self, visit: Visit) -> None:
        self.store.update("appointment", visit.num, AptStatus=UNSCHEDULED)
        self._history(visit.num, CHANGED)
        self._after_loss(self.today, visit, 0.0)

    def _cancel_for_good(self, visit: Visit) -> None:
        """A hard delete, which only the history table remembers."""
        self._history(visit.num, DELETED)
        self.store.delete("appointment", visit.num)
        self._after_loss(self.today, visit, 0.0)

    def _set_recall(self, person: Person, previous: date, due: date) -> None:
        self.store.update(
            "recall", person.recall, DatePrevious=previous, DateDueCalc=due, DateDue=due,
            DateScheduled=NO_DATE, RecallStatus=0,
        )  # fmt: skip

    # --- money -------------------------------------------------------------------------------

    def _checkout(self, day: date, person: Person, accounts: list[Account]) -> None:
        rng, ledger = self.rng, self.ledger
        for account in accounts:
            ledger.earn(account, day)
        owed = sum(max(0, account.owed) for account in accounts)
        if not owed:
            return
        if not person.coverages and rng.random() < 0.12:
            for account in accounts:
                if account.owed >= 2000:
                    ledger.adjust(account, day, -(account.fee * 5 // 100), "Cash discount")
        elif rng.random() < 0.015:
            ledger.adjust(accounts[0], day, -min(2500, accounts[0].fee), "Courtesy discount")
        if rng.random() < 0.72:
            number = ledger.pay(person.guarantor, day, accounts, owed)
            if number and rng.random() < 0.02:
                self._later(day, 3, lambda d: ledger.split_again(number))
        else:
            self._later(day, rng.randrange(15, 35), self._statement(person.guarantor, 1))

    def _statement(self, family: int, attempt: int) -> Callable[[date], None]:
        """A bill: paid, paid in part, or sent again; in the end given up by some."""

        def arrive(day: date) -> None:
            owing = self.ledger.owing(family)
            owed = sum(account.owed for account in owing)
            if not owed:
                if self.rng.random() < 0.3:
                    self.ledger.refund(family, day)
                return
            answer = self.rng.random()
            if answer < 0.6:
                self.ledger.pay(family, day, owing, owed)
                return
            if answer < 0.75 and owed > 10000:
                self.ledger.pay(family, day, owing, owed // 300 * 100)
            if attempt == 4 and owed > 5000:
                self.ledger.adjust(owing[0], day, 500, "Finance charge")
            if attempt < 7:
                wait = self.rng.randrange(26, 36)
                self._later(day, wait, self._statement(family, attempt + 1))
            elif self.rng.random() < 0.6:
                for account in owing:
                    self.ledger.adjust(account, day, -account.owed, "Bad debt write-off")

        return arrive

    # --- small tools -------------------------------------------------------------------------

    def _clock(self, day: date, minutes: int) -> None:
        self.local = datetime.combine(day, time(*divmod(minutes, 60)))
        self.store.now = to_utc(day, minutes)

    def _later(self, day: date, days: int, action: Callable[[date], None]) -> None:
        # At least tomorrow: today's agenda is already being worked off.
        self.agenda.setdefault(next_open(day + timedelta(days=max(1, days))), []).append(action)

    def _count(self, mean: float) -> int:
        """A random whole number with this mean (Poisson by Knuth's product of uniforms)."""
        limit, count, product = exp(-mean), 0, self.rng.random()
        while product > limit:
            count += 1
            product *= self.rng.random()
        return count
