"""What is compared: a codec, a policy that drops rows, or one that reads a part, each with its settings and its source.

A method leaves the model as it is. It says what file a document's cache becomes (`form`) and how questions read it
(`read`). Those of the report are in STANDARD; any other is named by its parts:

    step2.5          a codec of rows (compressed keys, or keys and values), and of states behind a plus: step3+int8
    h2o-0.25         a dropping policy and the share of the rows that it keeps
    read-lexical-2   a reading policy and how many blocks it reads
    snapkv-0.25@question   rows that the question chooses, for each anew (`asked_dropping`)
    kivi4@question   rows quantised when the paper's code does it (`asked_rounding`)

Every other method compresses a document before any question is known. What papers measured is another thing where they
let the compression see the question; how far both are apart is shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gfcache import Coding, layout
from gfcache.codecs import registry as codecs
from gfcache.format.convert import is_lossy, obstacle_of

from goldfinch.caching.row_parts import PLAIN, Form
from goldfinch.engine.base import Engine
from goldfinch.engine.reading import NO_VECTORS, obstacle_to_blocks
from goldfinch.errors import GoldFinchError
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.dropping.named import DROPPERS, EXPECTED, H2O, RANDOM, SNAPKV, STREAMING, Dropping
from goldfinch.policies.named import ALL, ATTENTION, AUTO, DEFAULT_BLOCKS, HYBRID, LEXICAL, MOST_BLOCKS
from goldfinch.policies.vectors import vectors_at_hand

from .asked_dropping import WITH_QUESTION
from .asked_rounding import AS_CODE, FLEXGEN, obstacle_to_asking

FULL, CODEC, DROPPING, READING, BENCHMARK = "full", "codec", "dropping", "reading", "benchmark"
KEEPS = (0.5, 0.25, 0.125)
READERS = (AUTO, LEXICAL, HYBRID, ATTENTION)
_READ, AT_QUESTION = "read-", "@question"
# Where each comes from. What is gf's own has no paper.
PAPERS = {
    "kivi": "KIVI, arXiv 2402.02750", "flexgen": "FlexGen, arXiv 2303.06865",
    H2O: "H2O, arXiv 2306.14048", SNAPKV: "SnapKV, arXiv 2404.14469", STREAMING: "StreamingLLM, arXiv 2309.17453",
    EXPECTED: "Expected Attention, arXiv 2510.00636", RANDOM: "the line that every policy has to beat",
    "step": "gf: a constant step and an entropy coder", "int": "one scale a row or head", "bf": "rounded to bfloat16",
    "f16": "rounded to half precision",
    AUTO: "gf: what was measured to answer best with the model", LEXICAL: "gf: blocks by the question's words",
    HYBRID: "gf: blocks by words and word vectors", ATTENTION: "gf: blocks by the model's attention, as InfLLM, "
    "arXiv 2402.04617, fetches them",
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: of it.
        family: FULL, CODEC, DROPPING, READING, or BENCHMARK: rows are dropped for each question, or quantised while
            document and question are read, as papers measured.
        form: what the file of a cache is to be.
        read: the reading policy of its questions.
        read_blocks: how many blocks that reads; None for its own default.
        paper: where it comes from.
    """

    name: str
    family: str
    form: Form = PLAIN
    read: str = ALL
    read_blocks: int | None = None
    paper: str = ""

    @property
    def settings(self) -> str:
        """Its hyper-parameters in words; two methods of equal settings do the same."""
        if self.family == CODEC:
            return f"rows {self.form.coding.rows}, states {self.form.coding.state}"
        if self.form.dropping is not None:
            chosen = ", chosen by each question" if self.family == BENCHMARK else ""
            return f"{self.form.dropping.policy} keeps {self.form.dropping.keep:g} of the rows{chosen}"
        if self.family == BENCHMARK:
            when = "before anything attends to them" if self.form.coding.rows in FLEXGEN else "behind the question"
            return f"rows {self.form.coding.rows}, rounded {when}"
        if self.family == READING:
            blocks = self.read_blocks or DEFAULT_BLOCKS.get(self.read)
            return f"reads by {self.read}, {'as measured' if blocks is None else f'{blocks} blocks'}"
        return "values as computed, read whole"

    @property
    def in_a_file(self) -> str:
        """The method that does the same before any question is known; of all but BENCHMARK itself."""
        return self.name.removesuffix(AT_QUESTION)

    @property
    def reads_by_words(self) -> bool:
        """Whether its questions need the index of words beside the cache."""
        return self.family == READING and self.read != ATTENTION

    def obstacle(self, engine: Engine[Any]) -> str | None:
        """Why a model cannot follow it; None where it can."""
        if self.family == CODEC:
            return _obstacle_to_coding(engine, self.form.coding)
        if self.form.dropping is not None:
            return engine.obstacle_to_dropping(self.form.dropping.policy)
        if self.family == BENCHMARK:
            coding = self.form.coding
            return obstacle_to_asking(engine.model, coding.rows) or _obstacle_to_coding(engine, coding)
        if self.family == READING:
            if not isinstance(engine.model, LanguageModel):
                return "the document is kept whole, and is read whole"
            if self.read == HYBRID and not vectors_at_hand():
                return NO_VECTORS
            return obstacle_to_blocks(engine.model)
        return None


def _obstacle_to_coding(engine: Engine[Any], coding: Coding) -> str | None:
    model = engine.model
    if not isinstance(model, LanguageModel):
        found = obstacle_of(engine.identity["model"], coding)
        serves = is_lossy(coding.rows) and coding.rows in codecs.serving(layout.KV_KEYS)
        return found or (None if serves else f"{coding.rows} codes no keys and values")
    kind = layout.COMPRESSED_K if model.config.n_gold else layout.ATTENTION_KV
    if is_lossy(coding.rows):
        if not (model.config.n_gold or model.config.n_attention):
            return "the model keeps a state and no rows"
        if coding.rows not in codecs.serving(kind):
            return f"{coding.rows} is not made for these rows"
    return None


def _paper(name: str) -> str:
    return next((paper for prefix, paper in PAPERS.items() if name.startswith(prefix)), "")


def _as_code(rows: str) -> Method:
    paper = f"{_paper(rows)}, quantised when its code does it"
    return Method(rows + AT_QUESTION, BENCHMARK, Form(Coding(rows)), paper=paper)


def _coded(rows: str, state: str = codecs.RAW.name) -> Method:
    name = rows if state == codecs.RAW.name else f"{rows}+{state}"
    return Method(name, CODEC, Form(Coding(rows, state)), paper=_paper(rows))


def _dropped(policy: str, keep: float, *, asked: bool = False) -> Method:
    form, name = Form(dropping=Dropping(policy, float(f"{keep:g}"))), f"{policy}-{keep:g}"
    if not asked:
        return Method(name, DROPPING, form, paper=PAPERS[policy])
    return Method(name + AT_QUESTION, BENCHMARK, form, paper=f"{PAPERS[policy]}, with the question seen")


def _read(policy: str, blocks: int | None = None) -> Method:
    name = f"{_READ}{policy}" + (f"-{blocks}" if blocks else "")
    return Method(name, READING, read=policy, read_blocks=blocks, paper=PAPERS[policy])


WHOLE = Method(FULL, FULL, paper="nothing is lost: what all others are compared with")
STANDARD: dict[str, Method] = {
    method.name: method
    for method in (
        WHOLE,
        *(_coded(rows) for rows in ("int8", "step4", "step3", "step2", "kivi4", "kivi2", "flexgen4")),
        *(_coded(*pair) for pair in (("int8", "int8"), ("step3", "int8"), ("step2", "int4"))),
        *(_dropped(policy, keep) for policy in DROPPERS for keep in KEEPS),
        *(_read(policy) for policy in READERS),
        *(_dropped(policy, 0.25, asked=True) for policy in WITH_QUESTION),
        *(_as_code(rows) for rows in AS_CODE),
    )
}


def methods_of(names: Sequence[str]) -> list[Method]:
    """The methods of these names, in their order, and before them the full cache, with which all are compared.

    Args:
        names: "all" for STANDARD; a name of it, or of parts; a family ("codec", "dropping", "reading", "benchmark").

    Raises:
        GoldFinchError: no such method.
    """
    found = {FULL: WHOLE}
    for name in names:
        of_family = {one.name: one for one in STANDARD.values() if name in ("all", one.family)}
        found |= of_family or {name: method_of(name)}
    return list(found.values())


def method_of(name: str) -> Method:
    """The method of a name.

    Raises:
        GoldFinchError: no such method.
    """
    if name in STANDARD:
        return STANDARD[name]
    if name.startswith(_READ):
        policy, _, blocks = name.removeprefix(_READ).partition("-")
        if policy in READERS and re.fullmatch(r"[0-9]{1,2}", blocks) and 1 <= int(blocks) <= MOST_BLOCKS:
            return _read(policy, int(blocks))
    policy, _, share = name.removesuffix(AT_QUESTION).rpartition("-")
    asked = name.endswith(AT_QUESTION)
    if policy in (WITH_QUESTION if asked else DROPPERS) and re.fullmatch(r"0?\.[0-9]{1,6}", share) and float(share) > 0:
        return _dropped(policy, float(share), asked=asked)
    rows, _, state = name.partition("+")
    rows, state = rows or codecs.RAW.name, state or codecs.RAW.name
    states = (codecs.RAW.name, *codecs.serving(layout.WKV_STATE))
    if rows in (codecs.RAW.name, *codecs.LOSSY) and state in states and (rows, state) != (codecs.RAW.name,) * 2:
        return _coded(rows, state)
    raise GoldFinchError(
        f"a method is {name!r:.60}, allowed: all, {CODEC}, {DROPPING}, {READING}, {BENCHMARK}, a codec like step3 or "
        f"step3+int8, a policy with its share like h2o-0.25 ({', '.join(DROPPERS)}), or read-POLICY "
        f"({', '.join(READERS)})"
    )
