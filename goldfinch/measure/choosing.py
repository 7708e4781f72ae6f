"""The codecs of a cache by what they may cost: the smallest file within a divergence, or the least divergence within
so many bytes. What was chosen is measured again, at other positions, for its receipt; one whose receipt breaks the
bound is passed over, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gfcache import Coding

from goldfinch.caching.coding import coded
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.row_parts import Form
from goldfinch.errors import NoCodecFits
from goldfinch.models.language_model import LanguageModel

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
# At most what a receipt adds to a file, its row in the header included.
RECEIPT_BYTES = 8192


@dataclass(frozen=True)
class Bounds:
    """What the codecs of a file may cost.

    Attributes:
        max_kl: mean divergence, in nats; None for any.
        max_bytes: of the file; None for any.
    """

    max_kl: float | None = None
    max_bytes: int | None = None

    @property
    def choose(self) -> bool:
        """Whether they choose the codecs; else these are given, and only measured."""
        return self.max_kl is not None or self.max_bytes is not None


def measured(
    model: LanguageModel,
    computed: DocumentCache,
    coding: Coding,
    bounds: Bounds,
    file_bytes: Callable[[DocumentCache], int],
) -> DocumentCache:
    """A cache as its file will give it back, with the receipt of its codecs.

    Args:
        computed: nothing of it rounded.
        coding: where the bounds do not choose.
        file_bytes: of a cache that was rounded.

    Raises:
        NoCodecFits: nothing is within the bounds.
    """
    yardstick = Yardstick(model, computed)
    if bounds.max_kl is not None:
        return _within(yardstick, computed, bounds.max_kl, bounds.max_bytes, file_bytes)
    if bounds.max_bytes is not None:
        return _fitting(yardstick, computed, bounds.max_bytes, file_bytes)
    return _with_receipt(yardstick, coded(computed, Form(coding)))


def _with_receipt(yardstick: Yardstick, rounded: DocumentCache) -> DocumentCache:
    return replace(rounded, receipt=yardstick.receipt(rounded))


def _within(
    yardstick: Yardstick,
    computed: DocumentCache,
    max_kl: float,
    max_bytes: int | None,
    file_bytes: Callable[[DocumentCache], int],
) -> DocumentCache:
    """The smallest whose divergence stays within the bound where it is chosen, and where it is reported."""
    for coding in reversed(LADDER):
        rounded = coded(computed, Form(coding))
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
    raise AssertionError("what is not rounded does not diverge")


def _fitting(
    yardstick: Yardstick, computed: DocumentCache, max_bytes: int, file_bytes: Callable[[DocumentCache], int]
) -> DocumentCache:
    """The one that is rounded least of those that fit."""
    size = 0
    for coding in LADDER:
        rounded = coded(computed, Form(coding))
        size = file_bytes(rounded) + RECEIPT_BYTES
        if size <= max_bytes:
            return _with_receipt(yardstick, rounded)
    raise NoCodecFits(f"the smallest file that codecs make has {size:,} bytes, allowed: {max_bytes:,}")
