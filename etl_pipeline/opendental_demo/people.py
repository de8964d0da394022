"""Families: patients, the plans that cover them, and their recall."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random

from opendental_demo.catalogue import CARRIERS, FIRST_NAMES, LAST_NAMES
from opendental_demo.store import Store

NO_DATE = "0001-01-01"
# Packed as days | weeks << 8 | months << 16 | years << 24.
_INTERVALS = {6: (6 << 16) + 1, 3: (3 << 16) + 1}


@dataclass(frozen=True)
class Coverage:
    """One plan that covers one patient; `allowed` is the percent of the fee that a PPO allows."""

    patplan: int
    inssub: int
    plan: int
    carrier: int
    ppo: bool
    allowed: int


@dataclass
class Person:
    """What the simulation remembers about a patient beyond the stored row.

    Attributes:
        recall: RecallNum; months: between cleanings.
        booked: a cleaning is on the schedule.
        used, deducted: cents of benefits by (plan, year).
    """

    num: int
    guarantor: int
    born: date
    dentist: int
    hygienist: int
    treated: bool = True
    perio: bool = False
    recall: int = 0
    months: int = 6
    booked: bool = False
    last_visit: date | None = None
    gone: bool = False
    coverages: list[Coverage] = field(default_factory=list)
    used: dict[tuple[int, int], int] = field(default_factory=dict)
    deducted: dict[tuple[int, int], int] = field(default_factory=dict)

    def is_child(self, day: date) -> bool:
        return (day - self.born).days < 14 * 365


class People:
    """Creates families; holds every person in the order of PatNum."""

    def __init__(
        self, store: Store, rng: Random, billing: int, dentists: list[int], hygienists: list[int]
    ) -> None:
        self.store = store
        self.rng = rng
        self.billing = billing
        self.dentists = dentists
        self.hygienists = hygienists
        self.all: list[Person] = []
        self.plans: list[tuple[int, int, bool, int]] = []

    def open_plans(self, day: date) -> None:
        """Carriers and the employers' plans with them."""
        for number, name in enumerate(CARRIERS, start=1):
            self.store.insert(
                "carrier", CarrierName=name, Address=f"{number} Example Plaza", City="Sampleville",
                State="IL", Zip="00000", Phone=f"(555)555-01{number:02}",
                ElectID=f"DEMO{number:02}", SecDateEntry=day,
            )  # fmt: skip
        for number in range(36):
            carrier = number % len(CARRIERS) + 1
            ppo = number % 4 != 3
            plan = self.store.insert(
                "insplan", GroupName=f"Invented Employer {number + 1}",
                GroupNum=f"G{1000 + number}", PlanType="p" if ppo else "", CarrierNum=carrier,
                EmployerNum=number + 1, PlanNote="", SecDateEntry=day,
            )  # fmt: skip
            self.plans.append((plan, carrier, ppo, 64 + number % 20 if ppo else 100))

    def new_family(self, day: date, *, earlier: bool) -> list[Person]:
        """One family that joins on `day`; `earlier`: it joined before the books begin."""
        rng = self.rng
        last = rng.choice(LAST_NAMES)
        size = rng.choices((1, 2, 3, 4, 5), (40, 27, 14, 13, 6))[0]
        joined = day - timedelta(days=rng.randrange(30, 2900)) if earlier else day
        street = f"{rng.randrange(1, 999)} Example Street"
        dentist = rng.choice(self.dentists)
        hygienist = rng.choice(self.hygienists)
        family: list[Person] = []
        for position in range(size):
            adult = position == 0 or (position == 1 and size < 5) or rng.random() < 0.25
            age = rng.randrange(19 * 365, 86 * 365) if adult else rng.randrange(3 * 365, 17 * 365)
            born = day - timedelta(days=age)
            gender, names = rng.choice(FIRST_NAMES)
            unknown_birth = rng.random() < 0.03
            num = self.store.insert(
                "patient",
                LName=last,
                FName=rng.choice(names),
                Gender=gender,
                Position=2 if not adult else (1 if size > 1 and position < 2 else 0),
                PatStatus=0,
                Birthdate=NO_DATE if unknown_birth else born,
                Address=street,
                City="Sampleville",
                State="IL",
                Zip="00000",
                HmPhone=f"(555)555-{rng.randrange(100, 200):04}",
                WirelessPhone=rng.choice(("", f"555-555-{rng.randrange(100, 200):04}")),
                Email=rng.choice(("", f"demo{len(self.all) + 1}@example.com")),
                Guarantor=0,
                PriProv=dentist,
                SecProv=hygienist,
                BillingType=self.billing,
                AddrNote=rng.choice((None, "", "")),
                TxtMsgOk=rng.choice((0, 1, 1, 2)),
                PreferRecallMethod=rng.choice((0, 2, 4, 5, 8)),
                DateFirstVisit=joined if earlier and rng.random() < 0.97 else NO_DATE,
                SecDateEntry=joined if rng.random() < 0.9 else NO_DATE,
                HasIns="",
                EstBalance=0.0,
                Bal_0_30=0.0,
                Bal_31_60=0.0,
                Bal_61_90=0.0,
                BalOver90=0.0,
                InsEst=0.0,
                BalTotal=0.0,
                DateTimeDeceased=f"{NO_DATE} 00:00:00",
            )
            guarantor = family[0].num if family else num
            self.store.rows["patient"][num]["Guarantor"] = guarantor
            person = Person(num, guarantor, born, dentist, hygienist)
            family.append(person)
            self.all.append(person)
        # A parent or employer who pays and is not treated here.
        if size > 2 and rng.random() < 0.1:
            family[0].treated = False
            self.store.update("patient", family[0].num, PatStatus=1)
        if rng.random() < 0.66:
            self.insure(family, day, ordinal=1)
            if size > 1 and rng.random() < 0.12:
                self.insure(family, day, ordinal=2)
        for person in family:
            if person.treated:
                person.perio = not person.is_child(day) and rng.random() < 0.14
                person.months = 3 if person.perio else 6
                person.recall = self._recall(person)
        return family

    def insure(self, family: list[Person], day: date, ordinal: int) -> None:
        """Cover the whole family by one plan, held by its first (or second) member."""
        rng = self.rng
        plan, carrier, ppo, allowed = rng.choice(self.plans)
        holder = family[min(ordinal - 1, len(family) - 1)]
        sub = self.store.insert(
            "inssub", PlanNum=plan, Subscriber=holder.num,
            DateEffective=date(day.year, 1, 1) if rng.random() < 0.7 else NO_DATE,
            DateTerm=NO_DATE, ReleaseInfo=1, AssignBen=1, SubscriberID=f"DEMO-{holder.num:06}",
            BenefitNotes="", SubscNote="", SecDateEntry=day,
        )  # fmt: skip
        for person in family:
            adult = not person.is_child(day)
            patplan = self.store.insert(
                "patplan", PatNum=person.num, Ordinal=len(person.coverages) + 1,
                Relationship=0 if person is holder else (1 if adult else 2), InsSubNum=sub,
                SecDateTEntry=datetime(day.year, day.month, day.day, 9),
            )  # fmt: skip
            person.coverages.append(Coverage(patplan, sub, plan, carrier, ppo, allowed))
            self.store.update("patient", person.num, HasIns="I")

    def drop_plans(self, family: list[Person], day: date) -> None:
        """A new job: the old plan is taken off the patients (hard delete) and ends."""
        for person in family:
            for coverage in person.coverages:
                self.store.delete("patplan", coverage.patplan)
                self.store.update("inssub", coverage.inssub, DateTerm=day)
            person.coverages = []
            self.store.update("patient", person.num, HasIns="")

    def _recall(self, person: Person) -> int:
        return self.store.insert(
            "recall", PatNum=person.num, DateDueCalc=NO_DATE, DateDue=NO_DATE, DatePrevious=NO_DATE,
            RecallInterval=_INTERVALS[person.months], RecallStatus=0, IsDisabled=0, Note="",
            RecallTypeNum=3 if person.perio else 1, DateScheduled=NO_DATE, Priority=0,
        )  # fmt: skip
