"""What is written behind a document: its summary, the next line of code, the tokens that follow."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from goldfinch.evaluate.held_out import ENCYCLOPEDIA
from goldfinch.evaluate.prose import HasTokenizer

from .base import CONTINUED, PREDICTED, Exam, Place, Question, Task
from .material import Material
from .scoring import edit_similarity, rouge_l

# Characters of a first paragraph that sums up an article.
_LEAST_LEAD, _MOST_LEAD = 250, 1500
# Lines that precede the one that is asked for, lines that are asked of a module, and lines between them.
_BEFORE, LINES_ASKED, _APART = 6, 5, 12
# Tokens that are predicted behind a document, in parts that are scored each by itself.
PREDICTED_TOKENS, PART_TOKENS = 256, 64


def summary(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """An article without its first paragraph, which sums it up and is the reference (as arXiv 1801.10198 has it)."""
    found = [parts for text in material.texts if (parts := _lead_and_body(text)) is not None]
    if place.number >= len(found):
        return None
    lead, body = Random(f"summaries-{place.tokens}").sample(found, len(found))[place.number]
    ids = model.tokenizer.encode(body)
    if len(ids) < place.tokens // 2:
        return Exam("", ())  # a short one is passed over
    text = str(model.tokenizer.decode(ids[: place.tokens])).rstrip("\ufffd")
    return Exam(text, (Question("What is the summary of this document?", (lead,)),))


def _lead_and_body(text: str) -> tuple[str, str] | None:
    """The first paragraph of a text, behind its title, and all that follows."""
    for line in text.split("\n"):
        if _LEAST_LEAD <= len(line) <= _MOST_LEAD:
            return line.strip(), text.split(line, 1)[1].strip()
        if len(line) > _MOST_LEAD:
            return None
    return None


def code(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """The beginning of a module of Python's library; the next line behind several places further on."""
    modules = Random(f"modules-{place.tokens}").sample(material.modules, len(material.modules))
    if place.number >= len(modules):
        return None
    source = modules[place.number]
    # Four characters a token at most are looked at: no tokenizer makes so few of code.
    ids = model.tokenizer.encode(source[: 8 * place.tokens])
    text = str(model.tokenizer.decode(ids[: place.tokens])).rpartition("\n")[0] + "\n"
    rest = source[len(text) :].split("\n")
    if len(ids) < place.tokens or not source.startswith(text) or len(rest) < _BEFORE + LINES_ASKED * _APART:
        return Exam("", ())
    asked = []
    for at in range(_BEFORE, _BEFORE + LINES_ASKED * _APART, _APART):
        line = next((n for n in range(at, min(at + _APART, len(rest))) if len(rest[n].strip()) > 8), None)
        if line is not None:
            before = "\n".join(rest[line - _BEFORE : line]) + "\n"
            asked.append(Question(before, (rest[line].strip(),)))
    return Exam(text, tuple(asked))


def tokens(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """The beginning of a part of a book; each of the tokens that follow is predicted from the cache."""
    rng, wanted = place.rng, place.tokens + PREDICTED_TOKENS + 1
    long_enough = [text for text in material.books if len(text) > 2 * wanted]
    if not long_enough:
        return None
    text = rng.choice(long_enough)
    start = text.find(" ", rng.randrange(max(1, len(text) - 8 * wanted))) + 1
    ids = model.tokenizer.encode(text[start : start + 8 * wanted])[:wanted]
    if len(ids) < wanted:
        return None
    decode = model.tokenizer.decode
    document, rest = str(decode(ids[: place.tokens])), ids[place.tokens :]
    edges = range(1, len(rest) + 1, PART_TOKENS)
    # The first token is given; each part goes on where the one before it ended.
    parts = [str(decode(rest[:1])), *(str(decode(rest[a:b])) for a, b in pairwise(edges))]
    return Exam(document, tuple(Question(part) for part in parts))


TASKS = (
    Task(
        "summary", "summarisation", "Rouge-L", "an article without its first paragraph, which is the reference",
        summary, rouge_l, 160, corpora=ENCYCLOPEDIA,
    ),
    Task(
        "code", "code completion", "edit similarity", "the beginning of a module of Python's library, and next lines "
        "further on", code, edit_similarity, 40, form=CONTINUED,
    ),
    Task(
        "language", "language modelling", "bits per token", f"{PREDICTED_TOKENS} tokens behind part of a book, in parts"
        f" of {PART_TOKENS}", tokens, None, 0, form=PREDICTED,
    ),
)  # fmt: skip
