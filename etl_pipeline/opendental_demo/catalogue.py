"""Fixed lists of the invented practice. Money in cents. Descriptions are our own short words."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A procedure code.

    Attributes:
        cover: what plans pay for it: P preventive, B basic, M major, N nothing.
        area: enum TreatmentArea (0 none, 1 surface, 2 tooth, 3 mouth, 4 quadrant).
        minutes: chair time, a multiple of five.
    """

    code: str
    text: str
    fee: int
    cover: str
    area: int
    hygiene: bool
    minutes: int


CODES = (
    Code("D0120", "periodic exam", 6200, "P", 3, False, 10),
    Code("D0140", "limited exam", 8800, "P", 3, False, 20),
    Code("D0150", "comprehensive exam", 10500, "P", 3, False, 30),
    Code("D0180", "periodontal exam", 11500, "P", 3, False, 30),
    Code("D0210", "full mouth x-rays", 15800, "P", 3, False, 20),
    Code("D0220", "single x-ray", 3600, "P", 2, False, 5),
    Code("D0272", "two bitewings", 5200, "P", 3, False, 5),
    Code("D0274", "four bitewings", 7800, "P", 3, False, 10),
    Code("D0330", "panoramic x-ray", 13200, "P", 3, False, 10),
    Code("D1110", "adult cleaning", 11200, "P", 3, True, 50),
    Code("D1120", "child cleaning", 8100, "P", 3, True, 30),
    Code("D1206", "fluoride varnish", 4600, "P", 3, True, 5),
    Code("D1351", "sealant", 6100, "P", 2, True, 10),
    Code("D2330", "front filling, one surface", 17800, "B", 1, False, 30),
    Code("D2391", "back filling, one surface", 19600, "B", 1, False, 30),
    Code("D2392", "back filling, two surfaces", 25400, "B", 1, False, 40),
    Code("D2393", "back filling, three surfaces", 31200, "B", 1, False, 50),
    Code("D2740", "ceramic crown", 138500, "M", 2, False, 80),
    Code("D2950", "core build-up", 31800, "M", 2, False, 20),
    Code("D3330", "molar root canal", 124000, "B", 2, False, 90),
    Code("D4341", "deep cleaning, quadrant", 28700, "B", 4, True, 50),
    Code("D4910", "periodontal maintenance", 16400, "B", 3, True, 50),
    Code("D5110", "upper denture", 189000, "M", 3, False, 60),
    Code("D6010", "implant", 235000, "M", 2, False, 90),
    Code("D7140", "simple extraction", 21500, "B", 2, False, 30),
    Code("D7210", "surgical extraction", 34600, "B", 2, False, 50),
    Code("D9110", "emergency pain relief", 14200, "B", 3, False, 20),
    Code("D9944", "night guard", 62000, "N", 3, False, 30),
    Code("D9972", "whitening", 38500, "N", 3, False, 60),
    Code("D9986", "missed appointment", 0, "N", 0, False, 0),
    Code("D9987", "cancelled appointment", 0, "N", 0, False, 0),
)
BY_CODE = {code.code: code for code in CODES}
# What an exam may find, with weights.
FINDINGS = (
    ("D2391", 26), ("D2392", 22), ("D2393", 10), ("D2330", 12), ("D2740", 15), ("D3330", 4),
    ("D7140", 6), ("D7210", 3), ("D6010", 2), ("D9944", 4), ("D9972", 3), ("D5110", 1),
)  # fmt: skip

# (enum DefCat, name, value). The position in the list decides DefNum, as it differs in any office.
DEFINITIONS = (
    (1, "Cash discount", "-"), (1, "Courtesy discount", "-"), (1, "Bad debt write-off", "-"),
    (1, "Finance charge", "+"), (1, "Missed appointment fee", "+"),
    (2, "Not called", ""), (2, "Unconfirmed", ""), (2, "Confirmed", ""), (2, "Arrived", ""),
    (4, "Standard account", ""), (4, "Collections", ""),
    (10, "Check", ""), (10, "Cash", ""), (10, "Credit card", ""), (10, "Patient refund", ""),
    (11, "Exams and x-rays", ""), (11, "Cleanings", ""), (11, "Fillings", ""), (11, "Crowns", ""),
    (11, "Surgery", ""), (11, "Other", ""),
    (13, "Left message", ""), (13, "Postcard sent", ""),
    (16, "No diagnosis", ""), (20, "Urgent", ""), (20, "Next", ""), (20, "Later", ""),
    (29, "Prepayment", ""), (32, "Insurance check", ""), (32, "Insurance EFT", ""),
    (35, "General dentist", ""), (35, "Hygienist", ""), (46, "Commercial", ""),
)  # fmt: skip

# Share of the allowed fee that a plan pays, by cover.
PLAN_PAYS = {"P": 100, "B": 80, "M": 50}
DEDUCTIBLE = 5000
YEARLY_MAXIMUM = 150000

CARRIERS = tuple(
    f"{name} {kind} (demo)"
    for name in ("Placeholder", "Sample", "Specimen", "Mock")
    for kind in ("Dental Mutual", "Benefit Trust", "Health Plan")
)

# Names nobody bears: whoever meets one in a log or a report knows where it comes from.
_LAST = ("Sample", "Mock", "Demo", "Test", "Fake", "Dummy", "Proto", "Placebo")
_LAST_END = ("son", "ford", "ton", "berg", "ley", "man", "wick", "field", "stein", "croft")
LAST_NAMES = tuple(start + end for start in _LAST for end in _LAST_END)
_FIRST = ("Alph", "Brav", "Charl", "Delt", "Ech", "Foxtr", "Golf", "Hotel", "Juliet", "Kil", "Lim")
FIRST_NAMES = ((1, tuple(f"{f}ina" for f in _FIRST)), (0, tuple(f"{f}ox" for f in _FIRST)))
