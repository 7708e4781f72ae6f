"""Documents of the kinds that people have, with questions: minutes, leases, price lists, e-mails, logs, manuals.

Every document is put together from parts with names and numbers of its own. Questions use other words than the text
where people would. Whole kinds are set aside for evaluation (`HELD_OUT_KINDS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .facts import NOT_STATED, FactMaker, digits
from .phrasings import MONTHS

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
GOODS = (
    "desk lamp", "garden hose", "oak shelf", "wool blanket", "copper kettle", "bread knife", "wall clock", "tool box",
    "rain barrel", "door mat", "camping stove", "coat rack", "paint roller", "bicycle pump", "picture frame",
    "water filter", "step ladder", "tea pot", "mail box", "work bench", "hand drill", "plant pot", "floor mop",
)  # fmt: skip
TOPICS = (
    "the roof repair", "the summer fair", "the new website", "the car park", "the heating", "the library hours",
    "staff training", "the annual budget", "the school bus", "the playground", "the newsletter", "volunteer shifts",
    "the kitchen renovation", "fire safety", "the membership fee", "the office move", "parking permits",
)  # fmt: skip
DEVICES = ("pump", "boiler", "printer", "camera", "router", "mower", "freezer", "projector", "dishwasher", "drill")
SERVICES = ("auth", "billing", "mail", "search", "backup", "gateway", "reports", "sync", "cache", "worker")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Statement:
    """One sentence or line, and the questions it answers; `topic` where a neighbour would say something else."""

    text: str
    questions: tuple[Pair, ...]


def _day(rng: Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"


def _date(rng: Random) -> str:
    return f"{_day(rng)} {rng.randint(2015, 2029)}"


def _hour(rng: Random) -> str:
    return f"{rng.randint(7, 20)}:{rng.choice(('00', '15', '30', '45'))}"


def _money(rng: Random) -> str:
    sign, amount = rng.choice("$€£"), rng.randint(2, 9999)
    return f"{sign}{amount:,}" if rng.random() < 0.6 else f"{sign}{amount}.{rng.randint(10, 99)}"


def _person(rng: Random, maker: FactMaker) -> str:
    return f"{maker.name(rng)} {maker.name(rng)}"


def _shuffled(rng: Random, statements: list[Statement], joint: str) -> tuple[str, list[Pair]]:
    return joint.join(s.text for s in statements), [rng.choice(s.questions) for s in statements if s.questions]


def _minutes(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    body, chair, clerk = f"the {maker.name(rng)} committee", _person(rng, maker), _person(rng, maker)
    date, place, start = _date(rng), f"{maker.name(rng)} {rng.choice(('hall', 'room', 'house'))}", _hour(rng)
    head = (
        f"Minutes of {body}\n\nDate: {date}, {start}\nPlace: {place}\nChair: {chair}\nMinutes taken by: {clerk}\n"
    )  # fmt: skip
    asked = [
        ("When did the meeting take place?", date), ("At what time did the meeting begin?", start),
        ("Where was the meeting held?", place), ("Who chaired the meeting?", chair),
        ("Who led the meeting?", chair), ("Who wrote the minutes?", clerk),
    ]  # fmt: skip
    parts = [head]
    for n, topic in enumerate(rng.sample(TOPICS, rng.randint(3, 7)), 1):
        who, sum_, due = _person(rng, maker), _money(rng), _day(rng)
        yes, no = str(rng.randint(4, 15)), str(rng.randint(0, 4))
        lines = [
            Statement(f"{who} reported on {topic}.", ((f"Who reported on {topic}?", who),)),
            Statement(
                rng.choice((f"The cost is expected to be {sum_}.", f"A budget of {sum_} was approved.")),
                ((f"How much money goes into {topic}?", sum_), (f"What will {topic} cost?", sum_)),
            ),
            Statement(
                rng.choice((f"This has to be done by {due}.", f"The deadline was set to {due}.")),
                ((f"By when must {topic} be finished?", due), (f"What is the deadline for {topic}?", due)),
            ),
            Statement(
                f"The motion was carried with {yes} votes to {no}.", ((f"How many voted for {topic}?", yes),)
            ),
        ]  # fmt: skip
        text, pairs = _shuffled(rng, lines[: rng.randint(2, 4)], " ")
        parts.append(f"{n}. {topic[:1].upper() + topic[1:]}\n{text}\n")
        asked += pairs
    following = f"{rng.choice(DAYS)}, {_day(rng)}"
    parts.append(f"The next meeting is on {following}.")
    return "\n".join(parts), [*asked, ("When do they meet again?", following), ("When is the next meeting?", following)]


def _lease(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    landlord, tenant = _person(rng, maker), _person(rng, maker)
    street = f"{rng.randint(1, 199)} {maker.name(rng)} {rng.choice(('Street', 'Road', 'Lane', 'Avenue'))}"
    rent, deposit, begin = _money(rng), _money(rng), _date(rng)
    notice, day = f"{rng.choice(('one', 'two', 'three', 'six'))} months", f"the {rng.randint(1, 28)}th"
    late, rooms = _money(rng), str(rng.randint(2, 7))
    sections = [
        Statement(
            f"This agreement is made between {landlord} (the landlord) and {tenant} (the tenant).",
            (("Who is the landlord?", landlord), ("Who rents the flat?", tenant), ("Who is the tenant?", tenant)),
        ),
        Statement(
            f"The landlord lets the premises at {street}, which have {rooms} rooms.",
            (("What is the address of the flat?", street), ("How many rooms are there?", rooms)),
        ),
        Statement(
            f"The tenancy begins on {begin}.", (("When does the lease start?", begin), ("When can one move in?", begin))
        ),
        Statement(
            f"The monthly rent is {rent}, payable on {day} of each month.",
            (
                ("How high is the rent?", rent),
                ("What does the flat cost each month?", rent),
                ("When is the rent due?", day),
            ),
        ),
        Statement(
            f"A deposit of {deposit} is held until the end of the tenancy.",
            (("How much is the deposit?", deposit), ("What has to be left as security?", deposit)),
        ),
        Statement(
            f"Either party may end the tenancy with {notice} written notice.",
            (("What is the notice period?", notice), ("How long before must one give notice?", notice)),
        ),
        Statement(f"A fee of {late} is charged for late payment.", (("What does paying late cost?", late),)),
    ]
    text = "LEASE\n\n" + "\n\n".join(f"{n}. {s.text}" for n, s in enumerate(sections, 1))
    return text, [rng.choice(s.questions) for s in sections]


def _email(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    sender, to, order = _person(rng, maker), maker.name(rng), f"{chr(65 + rng.randrange(26))}{digits(rng, 6)}"
    goods, sum_, day, phone = rng.choice(GOODS), _money(rng), f"{rng.choice(DAYS)}, {_day(rng)}", f"0{digits(rng, 8)}"
    count, firm = str(rng.randint(2, 60)), f"{maker.name(rng)} {rng.choice(('Ltd', 'GmbH', 'Inc', '& Sons'))}"
    lines = [
        Statement(
            f"thank you for your order {order} of {count} {goods}s.",
            (("What is the order number?", order), (f"How many {goods}s were ordered?", count)),
        ),
        Statement(
            f"The total comes to {sum_}.", (("What does the order cost?", sum_), ("How much is to be paid?", sum_))
        ),
        Statement(
            rng.choice((f"We will deliver on {day}.", f"You can expect the parcel on {day}.")),
            (("When will it arrive?", day), ("On which day is the delivery?", day)),
        ),
        Statement(f"If you have questions, call {phone}.", (("Which number can one call?", phone),)),
    ]
    text, pairs = _shuffled(rng, lines, " ")
    head = f"From: {sender}\nTo: {to}\nSubject: Your order\n\nDear {to},\n\n"
    pairs += [("Who wrote this message?", sender), ("Which firm sent the order?", firm)]
    return f"{head}{text}\n\nKind regards,\n{sender}\n{firm}", pairs


def _prices(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    separator = rng.choice((" | ", ",", "\t", ";"))
    columns = ["Item", "Price", rng.choice(("Stock", "In stock")), rng.choice(("Weight", "Colour"))]
    rows, pairs = [separator.join(columns)], list[Pair]()
    for goods in rng.sample(GOODS, rng.randint(4, 16)):
        price, stock = f"{rng.randint(1, 400)}.{rng.randint(10, 99)}", str(rng.randint(0, 300))
        last = f"{rng.randint(1, 40)} kg" if columns[3] == "Weight" else rng.choice(("red", "blue", "grey", "black"))
        rows.append(separator.join((goods, price, stock, last)))
        about = (
            (f"What does the {goods} cost?", price),
            (f"What is the price of the {goods}?", price),
            (f"How many {goods}s are left?", stock),
            (f"What is the {columns[3].lower()} of the {goods}?", last),
        )
        pairs.append(rng.choice(about))
    return f"{maker.name(rng)} price list\n\n" + "\n".join(rows), pairs


def _log(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    lines, pairs, minute, day = list[str](), list[Pair](), rng.randint(0, 600), rng.randint(1, 28)
    for service in rng.sample(SERVICES, rng.randint(4, 10)):
        minute += rng.randint(1, 60)
        clock = f"{minute // 60:02}:{minute % 60:02}:{rng.randint(10, 59)}"
        port, took, code, user = (
            digits(rng, 4),
            str(rng.randint(3, 9000)),
            str(rng.choice((401, 403, 404, 500, 502))),
            maker.name(rng).lower(),
        )
        text, asked = rng.choice(
            (
                (f"INFO {service} listening on port {port}", (f"On which port does {service} listen?", port)),
                (f"ERROR {service} failed with code {code}", (f"With which code did {service} fail?", code)),
                (f"INFO {service} finished in {took} ms", (f"How many milliseconds did {service} take?", took)),
                (f"WARN {service} rejected user {user}", (f"Which user did {service} reject?", user)),
            )
        )
        lines.append(f"2026-03-{day:02} {clock} {text}")
        pairs.append(asked if rng.random() < 0.7 else (f"At what time is the line about {service}?", clock))
    return "\n".join(lines), pairs


def _manual(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    device, model = rng.choice(DEVICES), f"{chr(65 + rng.randrange(26))}{chr(65 + rng.randrange(26))}-{digits(rng, 3)}"
    hours, litres, watts = str(rng.randint(2, 90)), f"{rng.randint(1, 40)} litres", f"{rng.randint(20, 3000)} W"
    years, colour, seconds = (
        f"{rng.randint(1, 10)} years",
        rng.choice(("red", "green", "amber", "blue")),
        str(rng.randint(2, 30)),
    )
    part, filter_ = f"{digits(rng, 3)}-{digits(rng, 4)}", rng.choice(("weeks", "months"))
    every = f"{rng.randint(2, 11)} {filter_}"
    statements = [
        Statement(f"The {model} {device} needs {watts} of power.", (("How much power does it need?", watts),)),
        Statement(f"Its tank holds {litres}.", (("How much fits into the tank?", litres),)),
        Statement(
            f"Charge the battery for {hours} hours before first use.", (("How many hours must it charge?", hours),)
        ),
        Statement(
            f"To reset it, hold the button for {seconds} seconds until the light turns {colour}.",
            (("How many seconds must the button be held?", seconds), ("Which colour shows after a reset?", colour)),
        ),
        Statement(
            f"Replace the filter every {every}; order part {part}.",
            (("How often is the filter changed?", every), ("Which part number has the filter?", part)),
        ),
        Statement(
            f"The warranty lasts {years}.",
            (("How long is the guarantee?", years), ("How long is the warranty?", years)),
        ),
    ]
    rng.shuffle(statements)
    titles = rng.sample(("Setting up", "Use", "Care", "Safety", "Trouble", "Service"), len(statements))
    text = "\n\n".join(f"## {title}\n\n{s.text}" for title, s in zip(titles, statements, strict=True))
    return f"# {model} {device}\n\n{text}", [rng.choice(s.questions) for s in statements] + [
        ("Which model is it?", model)
    ]


def _rules(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    who, days, limit, share = _person(rng, maker), str(rng.randint(2, 60)), _money(rng), f"{rng.randint(5, 95)} percent"
    km, night, office = f"{rng.randint(10, 90)} cents", _money(rng), f"the {maker.name(rng)} office"
    statements = [
        Statement(
            f"Claims must be handed in within {days} days of the trip.",
            (("How many days does one have to hand in a claim?", days), ("How soon must costs be claimed?", days)),
        ),
        Statement(
            f"Hotels are paid up to {night} a night.",
            (("What may a hotel cost?", night), ("How much is allowed for one night?", night)),
        ),
        Statement(f"Private cars are paid at {km} per kilometre.", (("What is paid for each kilometre?", km),)),
        Statement(
            f"Anything above {limit} has to be approved by {who}.",
            (("Who must approve large sums?", who), ("From which sum on is approval needed?", limit)),
        ),
        Statement(
            f"In case of illness, {share} of the fare is refunded.", (("How much of the fare comes back?", share),)
        ),
        Statement(f"Receipts are kept by {office}.", (("Who keeps the receipts?", office),)),
    ]
    rng.shuffle(statements)
    return "Travel and expenses\n\n" + "\n\n".join(s.text for s in statements), [
        rng.choice(s.questions) for s in statements
    ]


def _biography(rng: Random, maker: FactMaker) -> tuple[str, list[Pair]]:
    who, town, firm = (
        _person(rng, maker),
        maker.name(rng),
        f"{maker.name(rng)} {rng.choice(('Works', 'Bank', 'Press'))}",
    )
    born, started, wife, prize = (
        _date(rng),
        str(rng.randint(1950, 2020)),
        _person(rng, maker),
        f"the {maker.name(rng)} Prize",
    )
    statements = [
        Statement(
            f"{who} was born in {town} on {born}.",
            ((f"Where does {who} come from?", town), (f"When was {who} born?", born)),
        ),
        Statement(
            f"In {started} she joined {firm}.",
            (("Where did she work?", firm), ("When did she start her job?", started)),
        ),
        Statement(f"She is married to {wife}.", (("Who is her husband?", wife), ("To whom is she married?", wife))),
        Statement(
            f"For her work she received {prize}.", (("Which award did she win?", prize), ("What was she given?", prize))
        ),
    ]
    return " ".join(s.text for s in statements), [rng.choice(s.questions) for s in statements]


Kind = Callable[[Random, FactMaker], tuple[str, list[Pair]]]
KINDS: dict[str, Kind] = {
    "minutes": _minutes, "lease": _lease, "e-mail": _email, "prices": _prices, "log": _log, "manual": _manual,
    "rules": _rules, "biography": _biography,
}  # fmt: skip
HELD_OUT_KINDS = ("rules", "biography")


def kind_document(maker: FactMaker, rng: Random, *, held_out: bool = False) -> tuple[str, list[Pair]]:
    """A document of one kind, and (question, answer) pairs, some about what only another document of its kind says.

    Args:
        held_out: one of the kinds that training never sees.
    """
    names = [name for name in KINDS if (name in HELD_OUT_KINDS) == held_out]
    kind = KINDS[rng.choice(names)]
    text, pairs = kind(rng, maker)
    known = {question for question, _ in pairs}
    others = [KINDS[name](rng, maker)[1] for name in names if KINDS[name] is not kind]
    absent = [(q, NOT_STATED) for pairs_ in others for q, a in pairs_ if q not in known and a not in text]
    return text, pairs + rng.sample(absent, min(len(absent), len(pairs) // 4))
