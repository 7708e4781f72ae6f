"""An answer: its text as it becomes certain, what it took, when it ends; and several under way, a step of each in
turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from goldfinch.datasets.facts import NOT_STATED
from goldfinch.errors import GoldFinchError

from .quoting import Quote, Quoting
from .reading import Reading
from .sampling import Sampling, choose_token, log_probability

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Usage:
    """What one answer took.

    Attributes:
        document_tokens_cached: tokens that came from the cache.
        document_tokens_computed: document tokens that passed a Finch layer: 0.
        tail_tokens_replayed: document tokens that passed the GOLD layers, where the question alone was too short.
        question_tokens, generated_tokens: counts.
        timings_s: "expand" (keys and values of the document), "question", "decode".
        finish_reason: "stop" (end token or stop string) or "length".
        reading: which part of the document the GOLD layers attended to.
        likelihood: geometric mean of the probabilities that the model gave the tokens of the answer, its end included,
            0 to 1; None before the first.
        confidence: that of the finished answer; see `Answer`.
    """

    document_tokens_cached: int
    document_tokens_computed: int = 0
    tail_tokens_replayed: int = 0
    question_tokens: int = 0
    generated_tokens: int = 0
    timings_s: dict[str, float] | None = None
    finish_reason: str = "length"
    reading: Reading | None = None
    likelihood: float | None = None
    confidence: float | None = None


@dataclass
class Answer:
    """An answer: its text, its token ids and what it took.

    Attributes:
        confidence: the probability that it is right, as it was calibrated for the model and the reading policy
            (`policies.measured.Calibration`); None where it is not known.
        confidence_reason: why it is not known.
        quote: where it stands in the document, if it had to be a quote and is one.
        withheld: the text that "Not stated." stands for, which was less likely than `Sampling.least_likelihood`.
    """

    text: str
    token_ids: list[int]
    usage: Usage
    confidence: float | None = None
    confidence_reason: str | None = None
    withheld: str | None = None
    quote: Quote | None = None


Confidence = Callable[[Usage], tuple[float | None, str | None]]


class StreamedText:
    """Text from tokens, given out as soon as it is certain.

    Held back are the bytes of an unfinished character and whatever may yet become a stop string.

    Args:
        tokenizer: decode(ids) -> text.
        stops: strings that end the text; the first one found cuts it.
        strip: drop white space at both ends, as an answer has no use for it.
    """

    def __init__(self, tokenizer: Any, stops: tuple[str, ...], strip: bool) -> None:
        self._tokenizer, self._stops, self._strip = tokenizer, tuple(s for s in stops if s), strip
        self._ids: list[int] = []
        self._given = 0
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that this token makes certain."""
        self._ids.append(token)
        text = self._text()
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            return self._give(text[: min(found)], len(text))
        # A trailing replacement character is an unfinished one.
        certain = min(len(text.rstrip("\ufffd")), len(text) - self._stop_overlap(text))
        if self._strip:  # blanks at the end may yet turn out to be the last
            certain = len(text[:certain].rstrip())
        return self._give(text, certain)

    def finish(self) -> str:
        """What is left when no token follows."""
        text = self._text()
        return self._give(text.rstrip() if self._strip else text, len(text))

    def _text(self) -> str:
        text: str = self._tokenizer.decode(self._ids)
        return text.lstrip() if self._strip else text

    def _give(self, text: str, end: int) -> str:
        text = text.rstrip() if self._strip and self.stopped else text
        piece = text[self._given : end]
        self._given = max(self._given, min(end, len(text)))
        return piece

    def _stop_overlap(self, text: str) -> int:
        """Characters at the end of the text that begin a stop string."""
        longest = 0
        for stop in self._stops:
            for n in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:n]):
                    longest = max(longest, n)
                    break
        return longest


class Answering:
    """One answer under way: chooses its tokens, counts them, knows when it ends.

    Args:
        sampling: how.
        end_token_id: token that ends an answer, or several; None where none does.
        usage: kept up to date.
        text: takes the tokens and finds stop strings; None where only token ids are wanted.
        quoting: what the answer may be, where it must be a quote.
        confidence: from the usage of the finished answer to the probability that it is right, or None and why.

    Attributes:
        token_ids: chosen so far, the end token not among them.
        piece: the text that the last of them made certain.
        going: whether another may follow.
    """

    def __init__(
        self,
        sampling: Sampling,
        end_token_id: int | Collection[int] | None,
        usage: Usage,
        text: StreamedText | None = None,
        confidence: Confidence | None = None,
        quoting: Quoting | None = None,
    ) -> None:
        if sampling.quote and quoting is None:
            raise GoldFinchError("this model, or text to continue, quotes nothing", hint="leave out quote")
        self.sampling, self.usage = sampling, usage
        self.token_ids: list[int] = []
        self.piece, self.going = "", True
        self._text, self._generator = text, sampling.generator()
        self._end_token_ids = end_token_id if isinstance(end_token_id, Collection) else (end_token_id,)
        self._pieces: list[str] = []
        self._confidence, self._quoting = confidence, quoting
        self._log_probability, self._weighed = 0.0, 0

    def take(self, logits: Tensor) -> int | None:
        """The next token from logits (V,); None when the answer is over."""
        allowed = None if self._quoting is None else self._quoting.allowed()
        if allowed is None:
            token = choose_token(logits, self.sampling, self._generator)
        elif allowed:
            token = allowed[choose_token(logits[allowed], self.sampling, self._generator)]
        else:  # the document ends, and no token ends an answer
            self._stop()
            return None
        self._weigh(logits, token)
        if token in self._end_token_ids:
            self._stop()
            return None
        if self._quoting is not None:
            self._quoting.take(token)
        self.token_ids.append(token)
        self.usage.generated_tokens += 1
        if len(self.token_ids) >= self.sampling.max_tokens:
            self.going = False
        if self._text is not None:
            self._give(self._text.add(token))
            if self._text.stopped:
                self._stop()
        return token

    def finish(self) -> str:
        """The text that is certain only now that no token follows."""
        rest = "" if self._text is None or self._text.stopped else self._text.finish()
        # A quote that was cut off may end within a character.
        self._give(rest if self._quoting is None else rest.rstrip("\ufffd"))
        self.usage.confidence = self._known()[0]
        return self.piece

    def answer(self) -> Answer:
        """The whole answer, once it is finished."""
        text = "".join(self._pieces)
        if (self.usage.likelihood or 0.0) < (self.sampling.least_likelihood or 0.0) and text != NOT_STATED:
            return Answer(NOT_STATED, self.token_ids, self.usage, None, "the answer was withheld", text)
        quote = None if self._quoting is None else self._quoting.place(text)
        return Answer(text, self.token_ids, self.usage, *self._known(), quote=quote)

    def _known(self) -> tuple[float | None, str | None]:
        if self._confidence is None:
            return None, "nothing was calibrated for this model"
        return self._confidence(self.usage)

    def _weigh(self, logits: Tensor, token: int) -> None:
        """Count in how likely the model, as it is, found a token."""
        self._log_probability += log_probability(logits, token)
        self._weighed += 1
        self.usage.likelihood = math.exp(self._log_probability / self._weighed)

    def _give(self, piece: str) -> None:
        self.piece = piece
        self._pieces.append(piece)

    def _stop(self) -> None:
        self.going = False
        self.usage.finish_reason = "stop"


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Question:
    """A question under way with others.

    Attributes:
        text: as `Session.ask` takes it; raw likewise.
        sampling: how it is answered.
        given_up: whether nobody waits for the answer any more; looked at before each token.
    """

    text: str
    raw: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    given_up: Callable[[], bool] = _never


@dataclass(frozen=True)
class Step:
    """What a step did for one of the questions.

    Attributes:
        index: which of them.
        piece: text of its answer that became certain.
        answering: its answer; None with an error.
        finished: whether this was its last step; the answer is whole then.
        error: why it cannot be answered; None where it can.
    """

    index: int
    piece: str
    answering: Answering | None
    finished: bool = False
    error: Exception | None = None


def in_turns(
    questions: Sequence[Question], answering: Callable[[str, bool, Sampling], Iterator[Answering]]
) -> Iterator[list[Step]]:
    """Answer questions a token of each in turn, as they would be answered one by one: bit for bit.

    Args:
        answering: the answer to a question after each token and once more when it is finished (`Session.answering`).

    Yields:
        the steps of the questions that were not given up.
    """
    running = {n: answering(one.text, one.raw, one.sampling) for n, one in enumerate(questions)}
    last = dict[int, Answering]()
    while running:
        steps = []
        for n, answer in list(running.items()):
            if questions[n].given_up():
                del running[n]
                continue
            try:
                last[n] = next(answer)
                steps.append(Step(n, last[n].piece, last[n]))
            except StopIteration:
                del running[n]
                steps.append(Step(n, "", last[n], finished=True))
            except Exception as error:
                del running[n]
                steps.append(Step(n, "", None, finished=True, error=error))
        yield steps
