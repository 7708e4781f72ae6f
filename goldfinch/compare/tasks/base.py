"""What a task is: it makes documents of a length, and scores answers. A new one is a function and a line in `registry`.

Documents are made for a tokenizer, so that they have the length that is asked for in tokens of the model under test;
the same model reads the same documents with every method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from goldfinch.evaluate.prose import HasTokenizer

from .material import Material

# How a question is put: in the prompt; as text that the model goes on with; as text of which each token is predicted.
ASKED, CONTINUED, PREDICTED = "asked", "continued", "predicted"


@dataclass(frozen=True)
class Question:
    """A question to a document.

    Attributes:
        text: in the model's prompt, or, of text to continue, what precedes the answer.
        references: answers that are right; none where tokens are predicted.
        depth: where the answer stands in the document, 0 at its beginning, 1 at its end; None where no place is meant.
    """

    text: str
    references: tuple[str, ...] = ()
    depth: float | None = None


@dataclass(frozen=True)
class Exam:
    """A document and the questions to it: one pre-fill serves all of them."""

    document: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Place:
    """Which document of a task.

    Attributes:
        tokens: its length.
        number: 0, 1, ...
        rng: of it alone.
    """

    tokens: int
    number: int
    rng: Random


# None where there is no such document, and none behind it: the data has no more, or the length is too short for what it
# must hold. A document without questions is passed over.
Make = Callable[[HasTokenizer, Material, Place], Exam | None]
# From an answer and its references to a score, 0 to 1.
Score = Callable[[str, tuple[str, ...]], float]


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: of it.
        category: of the benchmark arXiv 2407.01527, or the nearest.
        measure: what its score is called.
        what: a document and its questions in words.
        make: makes a document.
        score: of an answer; None where tokens are predicted, and the score is bits for each.
        max_tokens: of an answer.
        form: how questions are put: ASKED, CONTINUED or PREDICTED.
        corpora: files of the data folder that it cannot do without.
        is_needle: whether its answers stand at known depths, so that a map of them is drawn.
    """

    name: str
    category: str
    measure: str
    what: str
    make: Make
    score: Score | None
    max_tokens: int
    form: str = ASKED
    corpora: tuple[str, ...] = ()
    is_needle: bool = False

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller score is the better one."""
        return self.score is None

    def exam(self, model: HasTokenizer, material: Material, tokens: int, number: int, seed: int) -> Exam | None:
        """A document, always the same one for the same arguments."""
        return self.make(model, material, Place(tokens, number, Random(f"{self.name}-{seed}-{tokens}-{number}")))
