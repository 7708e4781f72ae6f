"""gf ask --cite: the lines of the document that an answer rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goldfinch.engine.session import Session

# Characters of a cited line that are shown.
MOST_CHARACTERS = 160


def citations(session: Session, question: str, answer_ids: list[int], raw: bool) -> list[dict[str, Any]]:
    """The lines that the GOLD layers read most for an answer, as `gf ask --json` gives them.

    Returns:
        rows of first_line and last_line (from 1), share of the attention, text.
    """
    from goldfinch.engine.cite import cite

    rows = []
    for found in cite(session, question, answer_ids, raw=raw):
        text = found.text if len(found.text) <= MOST_CHARACTERS else found.text[: MOST_CHARACTERS - 3] + "..."
        place = {"first_line": found.first_line, "last_line": found.last_line}
        rows.append(place | {"share": round(found.share, 4), "text": text})
    return rows


def shown_lines(row: dict[str, Any]) -> str:
    """The place of a citation for people."""
    first, last = row["first_line"], row["last_line"]
    return f"line {first}" if first == last else f"lines {first}-{last}"
