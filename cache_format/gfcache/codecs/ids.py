"""Token ids by what stood before: arithmetic coding, its model learned on the way.

General compressors see bytes and repetitions, and a short document hardly repeats itself. What it has is a few words
that are most of it, and pairs of them; and tokenizers that merge bytes number their tokens from frequent to rare. So:
the probability of a token is a mixture of how often it followed the one before, how often it stood so far, and a
share that falls with its number. All of it is integers, so that every machine decodes alike.

Notation: T ids, V: one more than the largest.
"""

from __future__ import annotations

import numpy as np

# The share of an id i before any was seen: SHARE / (i + FIRST), in all as much as SEEN ids that were.
_SHARE, _FIRST, _SEEN = 1 << 20, 200, 600
# What follows from all ids weighs as much as so many that followed the one before.
_WEIGHT = 10
# Above, each id would take too long.
MOST_IDS, MOST_WORK = 1 << 14, 1 << 26
_TOP, _LEAST = 1 << 64, 1 << 56


class Ids:
    """Ids of 16 bits; a `Codec`."""

    name = "ids"

    def encode(self, raw: bytes | memoryview) -> bytes | None:
        """V (u32), then the code; None where there are too many."""
        if not len(raw) or len(raw) % 2:
            return None
        ids = np.frombuffer(raw, "<u2")
        V = int(ids.max()) + 1
        if len(ids) > MOST_IDS or len(ids) * V > MOST_WORK:
            return None
        coder, model = _Encoder(), _Model(V)
        for token in ids.tolist():
            coder.add(*model.place(token), model.total)
            model.see(token)
        return V.to_bytes(4, "little") + coder.finish()

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """Undo `encode`; ValueError where these are not such bytes."""
        V, count = int.from_bytes(stored[:4], "little"), raw_bytes // 2
        possible = 0 < V <= 1 << 16 and 0 < count <= MOST_IDS and count * V <= MOST_WORK
        if len(stored) < 4 or raw_bytes % 2 or not possible:
            raise ValueError(f"{raw_bytes} bytes of ids below {V}")
        decoder, model, out = _Decoder(stored[4:]), _Model(V), np.empty(count, "<u2")
        for n in range(count):
            out[n] = token = model.at(decoder.target(model.total))
            decoder.remove(*model.place(token))
            model.see(token)
        raw = out.tobytes()
        if self.encode(raw) != stored:
            raise ValueError("a code that no writer gives these ids")
        return raw


class _Model:
    """What may follow: of each id a number of `total`."""

    def __init__(self, V: int) -> None:
        self._alone = _SHARE // (np.arange(V, dtype=np.int64) + _FIRST)
        self._all = int(self._alone.sum())
        self._once = max(self._all // _SEEN, 1)
        self._followed: dict[int, dict[int, int]] = {}
        self._before: dict[int, int] = {}

    @property
    def total(self) -> int:
        """Of all ids together."""
        return (sum(self._before.values()) + _WEIGHT) * self._all

    def place(self, token: int) -> tuple[int, int]:
        """Where an id begins, and how much it has."""
        below = sum(n for other, n in self._before.items() if other < token)
        start = below * self._all + _WEIGHT * int(self._alone[:token].sum())
        return start, self._before.get(token, 0) * self._all + _WEIGHT * int(self._alone[token])

    def at(self, target: int) -> int:
        """The id that a number below the total lies in."""
        shares = _WEIGHT * self._alone
        for other, n in self._before.items():
            shares[other] += n * self._all
        return int(np.searchsorted(np.cumsum(shares), target, side="right"))

    def see(self, token: int) -> None:
        """Take it in, and go on behind it."""
        self._before[token] = self._before.get(token, 0) + 1
        self._alone[token] += self._once
        self._all += self._once
        self._before = self._followed.setdefault(token, {})


class _Encoder:
    """A number below 1 in base 256, within an interval that each id makes smaller."""

    def __init__(self) -> None:
        self._out, self._low, self._range = bytearray(), 0, _TOP

    def add(self, start: int, share: int, total: int) -> None:
        step = self._range // total
        self._move(step * start)
        self._range = step * share
        while self._range < _LEAST:
            self._shift()

    def finish(self) -> bytes:
        """The shortest number of the interval."""
        for kept in range(9):
            unit = _TOP >> (8 * kept)
            up = -self._low % unit
            if up < self._range:
                self._move(up)
                break
        for _ in range(8):
            self._shift()
        return bytes(self._out).rstrip(b"\0")

    def _move(self, more: int) -> None:
        self._low += more
        if self._low >= _TOP:
            self._low -= _TOP
            at = len(self._out) - 1
            while self._out[at] == 0xFF:
                self._out[at] = 0
                at -= 1
            self._out[at] += 1

    def _shift(self) -> None:
        self._out.append(self._low >> 56)
        self._low = (self._low << 8) % _TOP
        self._range <<= 8


class _Decoder:
    """The inverse; behind its end, the number has zeros."""

    def __init__(self, code: bytes) -> None:
        self._bytes, self._range, self._step = iter(code), _TOP, 0
        self._value = sum(next(self._bytes, 0) << (56 - 8 * n) for n in range(8))

    def target(self, total: int) -> int:
        """The number below `total` that the next id has."""
        self._step = self._range // total
        found = self._value // self._step
        if found >= total:
            raise ValueError("a code of no ids")
        return found

    def remove(self, start: int, share: int) -> None:
        """Go on behind the id that it is."""
        self._value -= self._step * start
        self._range = self._step * share
        while self._range < _LEAST:
            self._value = (self._value << 8) + next(self._bytes, 0)
            self._range <<= 8
