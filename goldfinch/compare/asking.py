"""One document with one method: its file is made, opened, asked and weighed.

All of a document's methods begin with one file, that of the full cache. What is measured afterwards is what a user of
the method's file has: the process holds the model and that cache alone.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gfcache
import torch
from gfcache import layout

from goldfinch.engine.base import Engine
from goldfinch.engine.session import Session
from goldfinch.measure.flatness import forget_peak, peak_bytes
from goldfinch.models.language_model import LanguageModel

from .asked_dropping import dropped_for, dropped_of_heads
from .asked_rounding import session_of
from .methods import BENCHMARK, Method
from .tasks.base import CONTINUED, PREDICTED, Exam, Question, Task

# Kinds of sections, by the parts that bytes are shown in.
_ROWS = (
    layout.COMPRESSED_K, layout.ATTENTION_KV, layout.KV_KEYS, layout.KV_VALUES, layout.KEPT_POSITIONS,
)  # fmt: skip
# A model whose guesses are no better than a uniform draw's by this share of its bits has learnt nothing.
_UNTRAINED = 0.9
_GUESSED = 192


class Kitchen:
    """Makes the files of one document's methods from its full cache.

    Args:
        engine: of its model.
        full: the file of the full cache.
    """

    def __init__(self, engine: Engine[Any], full: Path) -> None:
        self._engine, self._full = engine, full
        self._choosers: dict[str, tuple[Any, float]] = {}

    def make(self, method: Method, path: Path) -> float:
        """Write the file of a method; seconds that it took, those of a policy's look at the document included."""
        started = time.perf_counter()
        engine, form, looked_before = self._engine, method.form, 0.0
        cache = engine.open(self._full)
        if form.dropping is not None:
            looked_before = self._choosers[form.dropping.policy][1] if form.dropping.policy in self._choosers else 0.0
            chooser = self._chooser(cache, form.dropping.policy)
            cache = engine.dropped(cache, form.dropping, chooser)
        cache = engine.coded(cache, replace(form, dropping=None))
        engine.save(cache, path)
        return time.perf_counter() - started + looked_before

    def _chooser(self, cache: Any, policy: str) -> Any:
        if policy not in self._choosers:
            started = time.perf_counter()
            chooser = self._engine.chooser(cache, policy)
            self._choosers[policy] = chooser, time.perf_counter() - started
        return self._choosers[policy][0]


@dataclass(frozen=True)
class Asked:
    """What came of asking; fields as `Row` has them."""

    scores: tuple[float, ...]
    depths: tuple[float | None, ...]
    answer_tokens: tuple[int, ...]
    load_s: float
    first_token_s: float
    decode_tok_s: float | None
    peak_bytes: int | None


def ask(engine: Engine[Any], task: Task, exam: Exam, method: Method, path: Path) -> Asked:
    """Open a file and ask it all questions of an exam, greedily; nothing is withheld for being unlikely."""
    on_gpu = engine.device.startswith("cuda")
    _forget_peak(on_gpu)
    started = time.perf_counter()
    cache = engine.open(path, asking=True)
    load_s, session_s = time.perf_counter() - started, 0.0
    session: Any = None
    asks_anew = method.family == BENCHMARK and method.form.dropping is not None
    if not asks_anew:
        started = time.perf_counter()
        if method.family == BENCHMARK:
            session = session_of(engine, cache, method.form)
        else:
            session = engine.session(cache, read=method.read, read_blocks=method.read_blocks)
        session_s = time.perf_counter() - started
    if task.form == PREDICTED:
        scores, first_s = predicted(engine, session, exam)
        depths: tuple[float | None, ...] = (None,) * len(scores)
        return Asked(scores, depths, (0,) * len(scores), load_s, session_s + first_s, None, _peak(on_gpu))
    assert task.score is not None
    options: dict[str, Any] = {"max_tokens": task.max_tokens, "least_likelihood": 0.0}
    if task.form == CONTINUED:
        options |= {"raw": True, "stop": ("\n",)}
    found, before, decoded, decode_s = [], [], 0, 0.0
    for question in exam.questions:
        started = time.perf_counter()
        if asks_anew:
            assert method.form.dropping is not None
            drop = dropped_for if isinstance(engine.model, LanguageModel) else dropped_of_heads
            small = drop(engine.model, cache, method.form.dropping, engine.question(question.text))
            session = engine.session(small, read=method.read)
        answer = session.ask(question.text, **options)
        usage, taken = answer.usage, time.perf_counter() - started
        decoding = (usage.timings_s or {}).get("decode", 0.0)
        before.append(taken - decoding)
        steps = usage.generated_tokens - (usage.finish_reason == "length")  # none follows the last
        decoded, decode_s = decoded + max(steps, 0), decode_s + decoding
        found.append((task.score(answer.text, question.references), question.depth, usage.generated_tokens))
    scores, depths, counts = zip(*found, strict=True)
    rate = decoded / decode_s if decoded and decode_s > 0 else None
    return Asked(scores, depths, counts, load_s, session_s + before[0], rate, _peak(on_gpu))


@torch.no_grad()
def predicted(engine: Engine[Any], session: Any, exam: Exam) -> tuple[tuple[float, ...], float]:
    """Bits for each token of the parts of a text behind a cache, the first given; seconds to the first logits."""
    given, *parts = [engine.question(question.text, raw=True) for question in exam.questions]
    ids = given + [token for part in parts for token in part]
    started = time.perf_counter()
    if not isinstance(session, Session):  # of a model of others
        logits = session.continued(ids[:-1])
        first_s = time.perf_counter() - started
    else:
        first, state = session.start(ids[:1], copies=False)
        first_s = time.perf_counter() - started
        more, _ = session.model(torch.tensor([ids[1:-1]], device=session.model.device), state)
        logits = torch.cat([first[None], more[0]])
    losses = torch.nn.functional.cross_entropy(
        logits.float().cpu(), torch.tensor(ids[1:]), reduction="none"
    ) / torch.log(torch.tensor(2.0))
    at, found = len(given) - 1, []
    for part in parts:
        found.append(float(losses[at : at + len(part)].mean()))
        at += len(part)
    return tuple(found), first_s


def is_untrained(engine: Engine[Any], text: str) -> bool:
    """Whether a model predicts a text no better than one that knows nothing: its weights are random.

    Args:
        text: ordinary, of some hundred tokens or more.
    """
    most = min(2 * _GUESSED, (engine.most_tokens or 4 * _GUESSED) // 2)
    ids = engine.tokenizer.encode(text)[: most + 1]
    decode, size = engine.tokenizer.decode, len(ids) // 2
    document = engine.prefill(engine.document(str(decode(ids[:size]))))
    exam = Exam("", tuple(Question(str(decode(part))) for part in (ids[size : size + 1], ids[size + 1 :])))
    (bits,), _ = predicted(engine, engine.session(document, read="all"), exam)
    size = engine.identity["model"]["config"]["vocab_size"]
    return bits >= _UNTRAINED * float(torch.log2(torch.tensor(float(size))))


def bytes_of(path: Path) -> dict[str, int]:
    """Bytes of a file by part: what there is of each token, states, token ids, the index of words, all else."""
    with gfcache.read_cache(path) as file:
        found = {"rows": 0, "states": 0, "ids": 0, "index": 0}
        for section in file.header.sections:
            if section.kind in _ROWS:
                found["rows"] += section.stored_bytes
            elif section.kind == layout.TOKEN_IDS:
                found["ids"] += section.stored_bytes
            elif section.kind == layout.DOCUMENT_INDEX:
                found["index"] += section.stored_bytes
            elif section.position is not None:
                found["states"] += section.stored_bytes
        return found | {"rest": path.stat().st_size - sum(found.values())}


def _forget_peak(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError, RuntimeError, AttributeError):
        forget_peak()


def _peak(on_gpu: bool) -> int | None:
    if on_gpu:
        return int(torch.cuda.max_memory_allocated())
    try:
        return peak_bytes()
    except (OSError, RuntimeError):
        return None
