"""Names of dropping policies. Nothing is imported but the standard library: options are checked before any work."""

from __future__ import annotations

from dataclasses import dataclass

# A window behind the first rows; by the attention that rows got, or are expected to get; by chance, to compare with.
STREAMING, H2O, SNAPKV, EXPECTED, RANDOM = "streaming", "h2o", "snapkv", "expected", "random"
DROPPERS = (STREAMING, H2O, SNAPKV, EXPECTED, RANDOM)
# What each asks of the layers above the recurrent ones, which a pre-fill does not run otherwise.
COSTS = {
    STREAMING: "nothing",
    RANDOM: "nothing",
    SNAPKV: "the queries of the last 32 tokens: one more pass through the lower layers, linear in the length",
    H2O: "the queries of every token, block by block: time grows with the square of the length",
    EXPECTED: "the queries of every token, block by block: time grows with the square of the length",
}


@dataclass(frozen=True)
class Dropping:
    """How a cache became smaller.

    Attributes:
        policy: a name in DROPPERS.
        keep: share of the rows that it keeps, above 0 and below 1; six digits count.
    """

    policy: str
    keep: float

    def __str__(self) -> str:
        return f"{self.policy} {self.keep:g}"

    @classmethod
    def of(cls, noted: str | None) -> Dropping | None:
        """As the numerics of a header note it; None for what no policy here has written."""
        policy, _, keep = (noted or "").partition(" ")
        try:
            share = float(keep)
        except ValueError:
            return None
        return cls(policy, share) if policy in DROPPERS and 0 < share < 1 else None

    @property
    def by_slot(self) -> bool:
        """Whether keys that are turned when they are read are turned by the place of their row in the cache."""
        return self.policy == STREAMING

    def count(self, tokens: int, least: int) -> int:
        """Rows to keep of T.

        Args:
            tokens: T.
            least: rows at the end that any cache keeps.
        """
        return min(max(int(self.keep * tokens + 1e-9), least), tokens)
