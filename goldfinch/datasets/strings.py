"""Strings that have to be copied character for character: long numbers, codes, addresses, references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from .facts import Fact, FactMaker, digits

_HEX, _LETTERS = "0123456789abcdef", "ABCDEFGHJKLMNPQRSTUVWXYZ"
LONGEST_NUMBER = 64

STATEMENTS = (
    "The {kind} of {ent} is {val}.",
    "{ent} has the {kind} {val}.",
    "{ent}: {kind} {val}",
    "For {ent} use the {kind} {val}.",
    "The {kind} for {ent} was changed to {val}.",
    "{kind} ({ent}): {val}",
    "{val} is the {kind} of {ent}.",
    "Write down {val}, the {kind} of {ent}.",
    "Under {val} ({kind}) you find {ent}.",
)
QUESTIONS = (
    "What is the {kind} of {ent}?",
    "Which {kind} does {ent} have?",
    "Give the {kind} of {ent}.",
    "What {kind} belongs to {ent}?",
    "{ent}: which {kind}?",
)
# Set aside for evaluation.
HELD_OUT_STATEMENTS = ("{ent} can be found by its {kind}, {val}.", "Note that {val} has been {ent}'s {kind} since May.")
HELD_OUT_QUESTIONS = ("Tell me {ent}'s {kind}.", "By which {kind} can {ent} be found?")


def _of(rng: Random, alphabet: Sequence[str], count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def _number(rng: Random, maker: FactMaker) -> str:
    return digits(rng, rng.randint(7, LONGEST_NUMBER))


def _grouped(rng: Random, maker: FactMaker) -> str:
    size, joint = rng.randint(3, 5), rng.choice("- .")
    return joint.join(_of(rng, "0123456789", size) for _ in range(rng.randint(2, 8)))


def _hexadecimal(rng: Random, maker: FactMaker) -> str:
    return _of(rng, _HEX, rng.choice((7, 8, 12, 16, 32, 40)))


def _licence(rng: Random, maker: FactMaker) -> str:
    return "-".join(_of(rng, _LETTERS + "23456789", rng.choice((4, 5))) for _ in range(rng.randint(2, 5)))


def _reference(rng: Random, maker: FactMaker) -> str:
    parts = _of(rng, _LETTERS, rng.randint(1, 4)), str(rng.randint(1990, 2030)), digits(rng, rng.randint(2, 6))
    return rng.choice("-/.").join(parts)


def _url(rng: Random, maker: FactMaker) -> str:
    begin, end = rng.choice(("www.", "", "docs.", "shop.")), rng.choice(("com", "org", "net", "de"))
    host = f"{begin}{maker.name(rng).lower()}.{end}"
    path = "/".join(rng.choice((maker.name(rng).lower(), digits(rng, 4))) for _ in range(rng.randint(0, 3)))
    return f"{rng.choice(('https://', 'http://', ''))}{host}/{path}".rstrip("/")


def _mail(rng: Random, maker: FactMaker) -> str:
    return (
        f"{maker.name(rng).lower()}{rng.choice(('.', '_', ''))}{maker.name(rng).lower()}@{maker.name(rng).lower()}.com"
    )


def _path(rng: Random, maker: FactMaker) -> str:
    parts = [maker.name(rng).lower() for _ in range(rng.randint(2, 4))]
    return "/" + "/".join(parts) + rng.choice(("", ".txt", ".py", ".toml", ".log"))


def _version(rng: Random, maker: FactMaker) -> str:
    return ".".join(str(rng.randint(0, 40)) for _ in range(rng.randint(2, 4)))


def _phone(rng: Random, maker: FactMaker) -> str:
    return f"+{rng.randint(1, 99)} {digits(rng, 3)} {digits(rng, rng.randint(4, 7))}"


def _person(rng: Random, maker: FactMaker) -> str:
    return " ".join(maker.name(rng) for _ in range(rng.randint(2, 4)))


Maker = Callable[[Random, FactMaker], str]
KINDS: tuple[tuple[Maker, tuple[str, ...]], ...] = (
    (_number, ("number", "key", "serial number", "account number", "passkey", "code")),
    (_grouped, ("card number", "meter number", "account", "customer number")),
    (_hexadecimal, ("hash", "commit", "checksum", "token", "identifier")),
    (_licence, ("licence key", "product key", "voucher", "activation code")),
    (_reference, ("reference", "file number", "case number", "order number", "invoice")),
    (_url, ("address", "web page", "link", "URL")),
    (_mail, ("e-mail", "e-mail address", "contact")),
    (_path, ("path", "file", "folder")),
    (_version, ("version", "release", "IP address")),
    (_phone, ("phone number", "telephone", "fax number")),
    (_person, ("owner", "full name", "author", "signatory")),
)


def string_facts(maker: FactMaker, rng: Random, count: int, held_out: bool = False) -> list[Fact]:
    """`count` facts about distinct subjects whose values are long or without meaning.

    Args:
        held_out: in the wordings that training never sees.
    """
    statements, questions = (HELD_OUT_STATEMENTS, HELD_OUT_QUESTIONS) if held_out else (STATEMENTS, QUESTIONS)
    facts: dict[str, Fact] = {}
    while len(facts) < count:
        make, names = KINDS[0] if rng.random() < 0.3 else rng.choice(KINDS)
        words = {"kind": rng.choice(names), "ent": maker.entity(rng), "val": make(rng, maker)}
        statement, question = (rng.choice(forms).format(**words) for forms in (statements, questions))
        if not statement.startswith(words["val"]):
            statement = statement[:1].upper() + statement[1:]
        question = question[:1].upper() + question[1:]
        facts[words["ent"]] = Fact(statement, ((question, words["val"]),), words["ent"], words["kind"])
    return list(facts.values())
