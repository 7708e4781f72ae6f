"""What was measured of a model: which reading policy answers best with it, and how far its answers can be trusted.

A record is a file named by the model's fingerprint, shipped for our own models; for others, `gf model measure` makes
one in the user's private cache. A model without one reads the whole document, and no probability is given with its
answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from goldfinch.text.json_files import is_count, is_text, read_json

from .named import ALL, AUTO, MOST_BLOCKS, MOST_CANDIDATES, POLICIES

RECORDS = Path(__file__).parent / "records"
# In the user's folder of a model.
OWN_RECORD = "reading.json"
# Limits of what a record may hold.
MOST_RECORD_BYTES, MOST_ROWS, MOST_WEIGHT, MOST_REASON = 1 << 16, 64, 1e6, 300
# Probabilities below it count as it: their logarithm stays a number.
LEAST_LIKELIHOOD = 1e-9


@dataclass(frozen=True)
class Evidence:
    """What speaks for a block before the first token of the answer that it gives.

    Attributes:
        score: that the finding gave it.
        silence: ln of the probability that the answer begins as "Not stated." does.
        match: how well the best of its rows goes on, by the model's pointer; 0 without one.
        copied: how much of the first token's probability is copied from it; 0 without one.
    """

    score: float
    silence: float
    match: float
    copied: float


@dataclass(frozen=True)
class Choice:
    """Which of several blocks to answer from: weights of the evidence, their products added.

    Attributes:
        score, silence, match, copied: the weights.
        margin: by how much another block must be ahead of the one that was found first.
    """

    score: float = 1.0
    silence: float = 0.0
    match: float = 0.0
    copied: float = 0.0
    margin: float = 0.0

    def value(self, block: Evidence) -> float:
        """How well a block fits."""
        return (
            self.score * block.score
            + self.silence * block.silence
            + self.match * block.match
            + self.copied * block.copied
        )

    def best(self, blocks: Sequence[Evidence]) -> int:
        """Which of them to read, the first of the finding first."""
        values = [self.value(block) for block in blocks]
        best = max(range(len(values)), key=lambda n: (values[n], -n))
        return best if values[best] - values[0] > self.margin else 0


@dataclass(frozen=True)
class Measured:
    """A policy and how it is followed, and from how many document tokens on it is better than those before it.

    Attributes:
        policy: a name in POLICIES, not "auto".
        blocks: that it reads together.
        least_tokens: of the document.
        candidates: blocks of which the model chooses one to answer from.
        choice: by what it chooses.
    """

    policy: str
    blocks: int
    least_tokens: int = 0
    candidates: int = 1
    choice: Choice = Choice()


@dataclass(frozen=True)
class Calibration:
    """The probability that an answer is right: a logistic function (Platt, 1999) of how it came about.

        p = 1 / (1 + exp(-(intercept + score_weight score + likelihood_weight ln likelihood)))

    Attributes:
        auc: how well it tells right answers from wrong ones on questions that it was not fitted to; 0.5 is not at all.
        intercept, score_weight, likelihood_weight: fitted; None where it tells too little to be given.
        reason: why it is not given.
    """

    auc: float
    intercept: float | None = None
    score_weight: float = 0.0
    likelihood_weight: float = 0.0
    reason: str | None = None

    def probability(self, score: float, likelihood: float) -> float | None:
        """That an answer is right.

        Args:
            score: of the block it was found in; 0 where the whole document was read.
            likelihood: the geometric mean of its tokens' probabilities.
        """
        if self.intercept is None:
            return None
        ln = math.log(max(likelihood, LEAST_LIKELIHOOD))
        x = self.intercept + self.score_weight * score + self.likelihood_weight * ln
        return 1 / (1 + math.exp(-max(min(x, 700.0), -700.0)))


@dataclass(frozen=True)
class ModelRecord:
    """What was measured of one model.

    Attributes:
        rows: reading policies, by ascending least_tokens.
        calibrations: by the policy that was followed.
        least_likelihood: likewise: answers that are less likely become "Not stated.", where nobody says otherwise.
    """

    rows: tuple[Measured, ...] = ()
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    least_likelihood: Mapping[str, float] = field(default_factory=dict)

    def reading(self, tokens: int) -> Measured:
        """What "auto" means for a document of so many tokens."""
        fitting = [row for row in self.rows if row.least_tokens <= tokens]
        return fitting[-1] if fitting else WHOLE


WHOLE = Measured(ALL, 1)
_DEFAULT_WEIGHTS: dict[str, float] = asdict(Choice())
NOTHING = ModelRecord()


def record_of(model_fingerprint: str | None, own: Path | None) -> ModelRecord:
    """What was measured of a model: by its user, else by us; nothing where neither can be read.

    A user's measurement says which policy to follow; all else is taken from ours where it has none.

    Args:
        own: the user's private folder for the model, or None.
    """
    if model_fingerprint is None:
        return NOTHING
    places = [RECORDS / f"{model_fingerprint}.json"]
    if own is not None:
        places.insert(0, own / OWN_RECORD)
    found = [record for record in map(_read_if_there, places) if record is not None]
    if not found:
        return NOTHING
    calibrations = next((record.calibrations for record in found if record.calibrations), {})
    least_likelihood = next((record.least_likelihood for record in found if record.least_likelihood), {})
    return ModelRecord(found[0].rows, calibrations, least_likelihood)


def _read_if_there(path: Path) -> ModelRecord | None:
    """A record; None where it is missing, or not of this form: as if nothing had been measured."""
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int, size: int) -> ModelRecord:
    """A record; its time and size tell a new one from one that was read before."""
    return parsed(read_json(path, MOST_RECORD_BYTES))


def parsed(value: Any) -> ModelRecord:
    """A record from JSON: {"rows": [...], "confidence": {policy: {...}}, "least_likelihood": {policy: X}}; other names
    in it are for people.

    Raises:
        ValueError: it is not of this form.
    """
    rows = _field(value, "rows", list)
    if len(rows) > MOST_ROWS:
        raise ValueError(f"it has {len(rows)} rows, allowed: {MOST_ROWS}")
    confidence, least = (_field(value, name, dict, {}) for name in ("confidence", "least_likelihood"))
    unknown = [name for name in (*confidence, *least) if name not in POLICIES or name == AUTO]
    if unknown:
        raise ValueError(f"something is given for {unknown[0]!r:.40}, which is no policy")
    thresholds = {name: _number(least, name) for name in least}
    if any(not 0 <= number <= 1 for number in thresholds.values()):
        raise ValueError(f"least_likelihood is {least!r:.80}, allowed: 0 to 1")
    measured = sorted((_row(row) for row in rows), key=lambda row: row.least_tokens)
    calibrations = {name: _calibration(found) for name, found in confidence.items()}
    return ModelRecord(tuple(measured), calibrations, thresholds)


def _row(value: Any) -> Measured:
    policy, blocks = _field(value, "policy", str), _field(value, "blocks", int)
    least, candidates = _field(value, "least_tokens", int), _field(value, "candidates", int, 1)
    weights = _field(value, "choice", dict, {})
    choice = Choice(**{name: _number(weights, name, default) for name, default in _DEFAULT_WEIGHTS.items()})
    known = policy in POLICIES and policy != AUTO
    if not (known and is_count(least, 1 << 40) and 1 <= blocks <= MOST_BLOCKS and 1 <= candidates <= MOST_CANDIDATES):
        raise ValueError(f"its row {value!r:.120} is not of a policy, blocks and candidates that there are")
    return Measured(policy, blocks, least, candidates, choice)


def _calibration(value: Any) -> Calibration:
    auc = _number(value, "auc")
    if not 0 <= auc <= 1:
        raise ValueError(f"auc is {auc}, allowed: 0 to 1")
    reason = "" if value.get("reason") is None else _field(value, "reason", str)
    if not is_text(reason, MOST_REASON):
        raise ValueError("a reason too long")
    intercept = None if value.get("intercept") is None else _number(value, "intercept")
    score, likelihood = (_number(value, name, 0.0) for name in ("score_weight", "likelihood_weight"))
    return Calibration(auc, intercept, score, likelihood, reason or None)


def _field(value: Any, name: str, kind: type, default: Any = None) -> Any:
    found = value.get(name, default) if isinstance(value, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{name} is {found!r:.60}, expected: {kind.__name__}")
    return found


def _number(value: Any, name: str, default: float | None = None) -> float:
    found = value.get(name, default) if isinstance(value, dict) else None
    if not isinstance(found, int | float) or isinstance(found, bool) or not abs(found) <= MOST_WEIGHT:
        raise ValueError(f"{name} is {found!r:.60}, expected: a number up to {MOST_WEIGHT:,.0f}")
    return float(found)
