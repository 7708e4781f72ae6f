"""Answers on stdout, with what they took and the lines that were read most for them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from goldfinch.text.converters import PAGE_END, page_word

from .console import console
from .exits import SCHEMA_VERSION
from .explain import counted

if TYPE_CHECKING:
    from goldfinch.engine.answer import Answer, Usage
    from goldfinch.engine.quoting import Quote
    from goldfinch.engine.reading import Reading
    from goldfinch.engine.session import Session
    from goldfinch.policies.base import Chosen


@dataclass
class How:
    """How to answer, and what is known before the first question.

    Attributes:
        sampling: fields of `goldfinch.engine.sampling.Sampling`.
        raw: no question template.
        as_json, no_stream, usage, cite, passage, read, read_blocks: as the options say.
        unsure_below: less probably right answers are said to be so.
        log: keep questions and answers for gf log.
        load_s: seconds until the session was ready.
        computed: document tokens that had to be computed for it.
        explanation: the object of --explain, or None.
        library: state and path in the library, or None for a cache that was named.
        document: what it is called, None for the name of its source.
    """

    sampling: dict[str, Any]
    raw: bool = False
    as_json: bool = False
    no_stream: bool = False
    usage: bool = False
    cite: bool = False
    passage: bool = False
    read: str | Chosen = "auto"
    read_blocks: int | None = None
    unsure_below: float = 0.0
    log: bool = False
    load_s: float = 0.0
    computed: int = 0
    explanation: dict[str, Any] | None = None
    library: dict[str, Any] | None = None
    document: str | None = None

    def toggle_cite(self) -> bool:
        """Turn citations on or off; whether they are on now."""
        self.cite = not self.cite
        return self.cite


def answer_question(session: Session, question: str, how: How) -> None:
    """Answer one question on stdout."""
    if how.as_json:
        about = {"question": question, "document": how.document or document_name(session), "model": model_name(session)}
        console.json(answer_values(session, question, how) | about)
    elif how.no_stream or how.cite or how.sampling.get("quote"):
        answer = session.ask(question, raw=how.raw, **how.sampling)
        cited, said = citations(session, question, cited_tokens(answer), how) if how.cite else [], answer.text
        console.text(answer.text, end="\n")
        if answer.quote is not None:
            console.line(f"  [{shown_quote(answer.quote)}]")
        for row in cited:
            text = row["text"].strip().replace("\t", " ")  # cells of a table: a tab would be shown as a question mark
            console.line(f"  [{shown_lines(row)}{shown_column(row)}] {text}")
            console.lines(f"    {line}" for line in row.get("passage", "").split("\n") if how.passage)
    else:
        said = ""
        for piece in session.stream(question, raw=how.raw, **how.sampling):
            said += piece
            console.text(piece)
        console.line()
    if not how.as_json:
        _say_unsure(said, session.last_usage.confidence, how)
        note_answer(session, question, said, session.last_usage.confidence, how)
    if how.explanation is not None and not how.as_json:
        show_reading(explained_reading(session, question, how.raw))
    if how.usage:
        _show_usage(session.last_usage, how)
    how.computed = 0  # the next question finds all of it cached


def _say_unsure(answer: str, confidence: float | None, how: How) -> None:
    """Say, beside an answer, that it is rarely right; "Not stated." is none."""
    from goldfinch.datasets.facts import NOT_STATED

    if confidence is not None and confidence < how.unsure_below and answer.strip() != NOT_STATED:
        console.say(f"(unsure: of 100 such answers some {100 * confidence:.0f} are right)")


def note_answer(session: Session, question: str, answer: str, confidence: float | None, how: How) -> None:
    """Keep a question and its answer, where the user wants that."""
    if not how.log:
        return
    from goldfinch.library.answer_log import AnswerLog

    about = {"document": how.document or document_name(session), "model": model_name(session)}
    log = AnswerLog()
    try:
        log.note({**about, "question": question, "answer": answer, "confidence": _rounded(confidence)})
    except OSError as error:
        console.warn_once(f"the answer is not kept: {log.path}: {error.strerror}")


def answer_values(session: Session, question: str, how: How) -> dict[str, Any]:
    """Answer one question; its object for JSON."""
    answer = session.ask(question, raw=how.raw, **how.sampling)
    cited = citations(session, question, cited_tokens(answer), how) if how.cite else None
    values = answer_json(answer, how.document or document_name(session), how.load_s, how.computed)
    note_answer(session, question, answer.text, answer.confidence, how)
    if how.explanation is not None:
        reading = explained_reading(session, question, how.raw)
        values["explain"] = counted(how.explanation, how.computed) | {"reading": reading}
    if how.library is not None:
        values["library"] = how.library
    if cited is not None:
        values["citations"] = cited
    return values


def answer_json(answer: Answer, document: str | None, load_s: float, computed: int = 0) -> dict[str, Any]:
    """The object of `gf ask --json`; JSON Schema: docs/schemas/ask.json.

    Args:
        document: its name, None where it has none.
    """
    usage = answer.usage
    values = asdict(replace(usage, reading=None))
    del values["reading"], values["confidence"]  # the answer has it, and why it is not known
    values["likelihood"] = _rounded(usage.likelihood)
    values["document_tokens_cached"] -= computed
    values["document_tokens_computed"] = computed
    timings = {"load": load_s} | (values.pop("timings_s") or {})
    return {
        "schema_version": SCHEMA_VERSION,
        "answer": answer.text,
        "confidence": _rounded(answer.confidence),
        "confidence_reason": answer.confidence_reason,
        "withheld": answer.withheld,
        "quote": None if answer.quote is None else asdict(answer.quote),
        **values,
        "read": None if usage.reading is None else reading_json(usage.reading, document),
        "timings_s": {name: round(seconds, 6) for name, seconds in timings.items()},
    }


def cited_tokens(answer: Answer) -> list[int]:
    """The tokens whose lines are named; none of an answer that is not given, or says that there is none."""
    from goldfinch.datasets.facts import NOT_STATED

    return [] if answer.withheld is not None or answer.text.strip() == NOT_STATED else answer.token_ids


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def document_name(session: Session) -> str | None:
    """The name of the document that a session is about."""
    source = session.cache.source
    return str(source["name"]) if source and source.get("name") else None


def model_name(session: Session) -> str:
    """The name of the model that answers."""
    from goldfinch.library.opening import engine_of

    card = engine_of(session.model).card
    return str(session.cache.identity["model"]["name"] if card is None else card.name)


def reading_json(reading: Reading, document: str | None) -> dict[str, Any]:
    """What of a document was read: its blocks, best first (none where all of it was read)."""
    blocks = [
        {"document": document, "first_line": b.first_line, "last_line": b.last_line, "score": round(b.score, 4)}
        for b in reading.found
    ]
    return {"policy": reading.policy, "blocks": blocks, "tokens_attended": reading.tokens}


def explained_reading(session: Session, question: str, raw: bool) -> dict[str, Any]:
    """Why the blocks were chosen, and which others came close (`explain.reading` of docs/schemas/ask.json)."""
    candidates = [] if raw else session.reader.explained(question)
    rows = [
        {
            "first_line": c.found.first_line,
            "last_line": c.found.last_line,
            "score": round(c.found.score, 4),
            "words": c.words,
            "read": c.read,
        }
        for c in candidates
    ]
    return {"policy": session.reader.policy if candidates else "all", "candidates": rows}


def show_reading(found: dict[str, Any]) -> None:
    """The same in words, on stderr."""
    if not found["candidates"]:
        console.words("read: the whole document")
    for row in found["candidates"]:
        words = ", ".join(row["words"]) or "none"
        what = "read" if row["read"] else "not read"
        line = f"{what}: {shown_lines(row)}, {found['policy']} score {row['score']:.2f}; words in common: {words}"
        console.words(line)


def _show_usage(usage: Usage, how: How) -> None:
    timings = usage.timings_s or {}
    decode_s = timings.get("decode", 0.0)
    rate = (
        f", {(usage.generated_tokens - 1) / decode_s:,.0f} tok/s" if decode_s > 0 and usage.generated_tokens > 1 else ""
    )
    console.words(
        f"{usage.document_tokens_cached - how.computed:,} document tokens from the cache, {how.computed} computed, "
        f"{usage.tail_tokens_replayed} replayed; {usage.question_tokens} question tokens in "
        f"{timings.get('question', 0.0):.3f} s; {usage.generated_tokens} generated in {decode_s:.3f} s{rate}; "
        f"load {how.load_s:.2f} s"
    )


# Characters of a cited line that are shown, and how many of them stand before what was read most.
MOST_CHARACTERS, BEFORE = 160, 50
CUT = "..."


def citations(session: Session, question: str, answer_ids: list[int], how: How) -> list[dict[str, Any]]:
    """The lines that were read most for an answer, as `gf ask --json` gives them.

    Returns:
        rows of first_line and last_line (from 1), share of what was read; page (from 1) and page_kind (page, slide,
        sheet), where there are any; of the line read most its number, the
        character where what was read most begins, and the text around that; with --passage the whole block.
    """
    from goldfinch.library.opening import engine_of

    rows: list[dict[str, Any]] = []
    cited = engine_of(session.model).cite(session, question, answer_ids, raw=how.raw)
    pages = page_starts(session) if cited else []
    kind = page_word((session.cache.source or {}).get("prepared"))
    for found in cited:
        row = {"first_line": found.first_line, "last_line": found.last_line, "share": round(found.share, 4)}
        row |= {"page": bisect_right(pages, found.line) + 1, "page_kind": kind} if pages else {}
        row |= {"line": found.line, "column": found.column, "text": around(found.text, found.column)}
        rows.append(row | ({"passage": found.passage} if how.passage else {}))
    return rows


def page_starts(session: Session) -> list[int]:
    """The lines, from 1, of a document with which its pages but the first begin; none of one without form feeds."""
    tokenizer = getattr(session.model, "tokenizer", None)
    text: str = "" if tokenizer is None else tokenizer.decode(session.cache.own_token_ids.tolist())
    if PAGE_END not in text:
        return []
    ends = []
    for number, line in enumerate(text.split("\n"), 1):
        parts = line.split(PAGE_END)
        ends += [number + (1 if "".join(parts[:n]).strip() else 0) for n in range(1, len(parts))]
    return ends


def around(text: str, column: int) -> str:
    """As much of a line as is shown: around a character, counted from 1, with marks where it is cut."""
    if len(text.strip()) <= MOST_CHARACTERS:
        return text.strip()
    room = MOST_CHARACTERS - len(CUT) * 2
    start = max(min(column - 1 - BEFORE, len(text) - room), 0)
    shown = text[start : start + room].strip()
    return (CUT if text[:start].strip() else "") + shown + (CUT if text[start + room :].strip() else "")


def shown_column(row: dict[str, Any]) -> str:
    """Where in its line a citation's text stands, for people, where that is only a part of the line."""
    if not (row["text"].startswith(CUT) or row["text"].endswith(CUT)):
        return ""
    line = "" if row["first_line"] == row["last_line"] else f", line {row['line']}"
    return f"{line}, character {row['column']}"


def shown_quote(quote: Quote) -> str:
    """The place of a quote for people."""
    first, last = quote.first_character, quote.last_character
    characters = f"character {first}" if first == last else f"characters {first}-{last}"
    return f"line {quote.line}, {characters}"


def shown_lines(row: dict[str, Any]) -> str:
    """The place of a citation for people."""
    first, last = row["first_line"], row["last_line"]
    page = f"{row['page_kind']} {row['page']}, " if "page" in row else ""
    return page + (f"line {first}" if first == last else f"lines {first}-{last}")


def shown_blocks(usage: Usage) -> str:
    """Where the blocks that were read stand, for after the name of their document; nothing for all of it."""
    found = usage.reading.found if usage.reading is not None else ()
    return "".join(
        f"{', ' if n == 0 else '; '}{shown_lines({'first_line': b.first_line, 'last_line': b.last_line})}"
        for n, b in enumerate(found)
    )
