"""The codecs of a cache, or the rows that it keeps, by what they may cost.

It is the smallest file within a divergence, or the least divergence within so many bytes. What was chosen is measured
again, at other positions, for its receipt; one whose receipt breaks the bound is passed over, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gfcache import Coding
from gfcache.format.convert import obstacle_of

from goldfinch.caching.row_parts import Form
from goldfinch.errors import ModelRefused, NoCodecFits
from goldfinch.policies.dropping.named import Dropping

from .divergence import Yardstick

# From the largest file to the smallest: keys and states lose about as much in each. bench/quality/codecs.py measures.
LADDER = (
    Coding(),
    Coding("raw", "bf16"),
    Coding("int8", "bf16"),
    Coding("int8", "int8"),
    Coding("step4", "int8"),
    Coding("step3.5", "int8"),
    Coding("step3", "int8"),
    Coding("step3", "int4"),
    Coding("step2.5", "int4"),
    Coding("step2", "int4"),
    Coding("step1.5", "int4"),
)
# Shares of the rows that a policy may keep, from the largest file to the smallest.
KEEPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)
# At most what a receipt adds to a file, its row in the header included.
RECEIPT_BYTES = 8192
# A cache as a smaller file would give it back.
Step = Callable[[], Any]


@dataclass(frozen=True)
class Bounds:
    """What a file may cost that is smaller than its cache as computed.

    Attributes:
        max_kl: mean divergence, in nats; None for any.
        max_bytes: of the file; None for any.
        policy: that drops rows, of which the bounds choose how many; None where they choose codecs.
    """

    max_kl: float | None = None
    max_bytes: int | None = None
    policy: str | None = None

    @property
    def choose(self) -> bool:
        """Whether they choose; else the form of the file is given, and only measured."""
        return self.max_kl is not None or self.max_bytes is not None


def measured(
    engine: Any,
    computed: Any,
    form: Form,
    bounds: Bounds,
    file_bytes: Callable[[Any], int],
) -> Any:
    """A cache as its file will give it back, with the receipt of what that costs.

    Args:
        engine: of its model.
        computed: nothing of it rounded or dropped.
        form: where the bounds do not choose.
        file_bytes: of a cache that was rounded.

    Raises:
        NoCodecFits: nothing is within the bounds.
        GoldFinchError: see `kept.check_droppable`.
        ModelRefused: see `check_measurable`.
    """
    check_measurable(computed.identity["model"])
    yardstick = Yardstick(engine, computed)
    if not bounds.choose:
        return _with_receipt(yardstick, engine.coded(computed, form))
    steps = _steps(engine, computed, form, bounds.policy)
    if bounds.max_kl is not None:
        return _within(yardstick, steps, bounds.max_kl, bounds.max_bytes, file_bytes)
    assert bounds.max_bytes is not None
    return _fitting(yardstick, steps, bounds.max_bytes, file_bytes)


def check_measurable(model: Mapping[str, Any]) -> None:
    """Refuse what has no codecs that could cost anything, before it is computed.

    Args:
        model: of a header.

    Raises:
        ModelRefused: a model of others that keeps no keys and values of whole documents, or this document in blocks.
    """
    obstacle = obstacle_of(model, Coding(LADDER[-1].rows))
    if obstacle is not None:
        raise ModelRefused(obstacle, hint="leave out --receipt, --max-kl and --max-bytes")


def ladder_of(model: Mapping[str, Any], based: bool) -> tuple[Coding, ...]:
    """What caches of a header's `model` can be rounded by, from the largest file to the smallest.

    Args:
        based: the model can have a basis, in which each step loses less for its bits (bench/quality/pair_codecs.py).
    """
    if all(obstacle_of(model, coding) is None for coding in LADDER):
        return LADDER
    names = dict.fromkeys(coding.rows for coding in LADDER)
    rows = (Coding(name.replace("step", "basis") if based else name) for name in names)
    return tuple(coding for coding in rows if obstacle_of(model, coding) is None)


def _steps(engine: Any, computed: Any, form: Form, policy: str | None) -> list[Step]:
    """From the largest file to the smallest."""
    if policy is None:
        ladder = ladder_of(computed.identity["model"], engine.obstacle_to_basis() is None)
        return [partial(engine.coded, computed, Form(coding)) for coding in ladder]
    chooser = engine.chooser(computed, policy)

    def keeping(keep: float) -> Any:
        small = computed if keep == 1.0 else engine.dropped(computed, Dropping(policy, keep), chooser)
        return engine.coded(small, Form(form.coding))

    return [partial(keeping, keep) for keep in KEEPS]


def _with_receipt(yardstick: Yardstick, rounded: Any) -> Any:
    return replace(rounded, receipt=yardstick.receipt(rounded))


def _within(
    yardstick: Yardstick,
    steps: Sequence[Step],
    max_kl: float,
    max_bytes: int | None,
    file_bytes: Callable[[Any], int],
) -> Any:
    """The smallest whose divergence stays within the bound where it is chosen, and where it is reported."""
    for step in reversed(steps):
        rounded = step()
        if max(d.mean_kl for d in yardstick.divergences(rounded)) > max_kl:
            continue
        found = _with_receipt(yardstick, rounded)
        assert found.receipt is not None
        if found.receipt.mean_kl > max_kl:
            continue
        size = 0 if max_bytes is None else file_bytes(found)
        if max_bytes is not None and size > max_bytes:
            raise NoCodecFits(f"the smallest file within KL {max_kl:g} has {size:,} bytes, allowed: {max_bytes:,}")
        return found
    raise NoCodecFits(f"with these codecs no file stays within KL {max_kl:g}, even where all rows are kept")


def _fitting(yardstick: Yardstick, steps: Sequence[Step], max_bytes: int, file_bytes: Callable[[Any], int]) -> Any:
    """The one that loses least of those that fit."""
    size = 0
    for step in steps:
        rounded = step()
        size = file_bytes(rounded) + RECEIPT_BYTES
        if size <= max_bytes:
            return _with_receipt(yardstick, rounded)
    raise NoCodecFits(f"the smallest file that there is has {size:,} bytes, allowed: {max_bytes:,}")
