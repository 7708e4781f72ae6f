"""Values of options and settings: what is allowed, and how sizes are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar, cast

from goldfinch.policies.dropping.named import DROPPERS
from goldfinch.policies.named import LAYOUTS, MOST_BLOCKS, POLICIES
from goldfinch.text.encodings import checked_encoding

from .exits import CommandError

T = TypeVar("T")
DTYPES = ("float32", "bfloat16", "float64")
# As cache files write them, and back.
SHORT_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f64": "float64"}
FILE_DTYPES = {long: short for short, long in SHORT_DTYPES.items()}
MOST_SEED = 2**63 - 1
MOST_COUNT = 2**31 - 1
MOST_SHARDS = 100_000


# The checks of options and settings: each gives the value back, or raises ValueError with what is allowed.
def text(value: object) -> str:
    """Any text but an empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def count(value: object) -> int:
    """A whole number of 1 or more, up to MOST_COUNT, or as `parse_count` reads it."""
    if isinstance(value, str):
        value = _whole(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_COUNT:
        raise ValueError(f"a number of 1 or more, up to {MOST_COUNT:,}")
    return value


def reading_policy(value: object) -> str:
    """The name of a reading policy."""
    if value not in POLICIES:
        raise ValueError(", ".join(POLICIES))
    return str(value)


def blocks(value: object) -> int:
    """A number of blocks to read."""
    number = count(value)
    if number > MOST_BLOCKS:
        raise ValueError(f"1 to {MOST_BLOCKS}")
    return number


def share(value: object) -> float:
    """A number from 0 to 1."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("0 to 1")
    return number


def switch(value: object) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("true or false")
    return words[value.lower()]


def size(value: object) -> str:
    """A number of bytes as `parse_bytes` reads it."""
    try:
        if isinstance(value, str | int) and not isinstance(value, bool):
            parse_bytes(str(value))
            return str(value)
    except CommandError:
        pass
    raise ValueError("a size such as 4g")


def device(value: object) -> str:
    """auto, cpu, cuda or cuda:N."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", str(value), re.ASCII):
        raise ValueError("auto, cpu, cuda, cuda:N")
    return str(value)


def dtype(value: object) -> str:
    """A precision, by its long or its short name."""
    if value not in (*DTYPES, *SHORT_DTYPES):
        raise ValueError(", ".join(DTYPES))
    return str(value)


def checkpoints(value: object) -> str:
    """none, auto or a number of tokens."""
    if value in ("none", "auto"):
        return str(value)
    number = _whole(str(value))
    if not number:
        raise ValueError("none, auto or a number of tokens")
    return str(number)


def encoding(value: object) -> str:
    """An encoding of text, or "auto"."""
    checked_encoding(text(value))
    return str(value)


def layout(value: object) -> str:
    """How a document is kept."""
    if value not in LAYOUTS:
        raise ValueError(", ".join(LAYOUTS))
    return str(value)


def codec(value: object) -> str:
    """Of compressed keys: one that is lossless, or rounds them."""
    return _codec(value, "compressed_k")


def state_codec(value: object) -> str:
    """Of the state behind a document."""
    return _codec(value, "wkv_state")


def dropper(value: object) -> str:
    """Who drops rows."""
    if value not in DROPPERS:
        raise ValueError(", ".join(DROPPERS))
    return str(value)


def kept_share(value: object) -> float:
    """A share of rows that leaves some and drops some."""
    if not isinstance(value, float) or not 0 < value < 1:
        raise ValueError("a number between 0 and 1, like 0.2")
    return value


def _codec(value: object, kind: str) -> str:
    from gfcache.codecs import registry

    based = registry.BASED if kind == "compressed_k" else ()
    allowed = (registry.RAW.name, *registry.serving(kind), *based)
    if value not in allowed:
        raise ValueError(", ".join(allowed))
    return str(value)


def checked(option: str, check: Callable[[object], object]) -> Callable[[T], T]:
    """A check as the callback of an option: a wrong value is refused before anything is read, loaded or computed."""

    def callback(value: T) -> T:
        try:
            return value if value is None else cast(T, check(value))
        except ValueError as error:
            raise CommandError(f"{option} is {value!r}, allowed: {error}") from error

    return callback


def parse_share(text: str, what: str) -> float:
    """0 < share <= 1 from "100%" or "12.5%".

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    share = float(match.group(1)) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise CommandError(f"{what} is {text!r}, allowed: a share above 0% up to 100%")
    return share


def parse_lengths(text: str, what: str) -> list[int]:
    """Numbers of tokens from "512,2048".

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: anything else.
    """
    parts = [_whole(part) for part in text.split(",")]
    if not all(parts):
        raise CommandError(f"{what} is {text!r}, expected numbers of tokens like 512,2k")
    return [int(part or 0) for part in parts]


_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400}


def parse_age(text: str, what: str) -> float:
    """Seconds of an age such as 30m, 12h, 7d, 2w, 6mo, 1y.

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: not an age.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(mo|[smhdwy])\s*", text.lower())
    if match is None:
        raise CommandError(f"{what} is {text!r}, expected a number with s, m, h, d, w, mo or y, like 7d")
    return float(match.group(1)) * _AGES[match.group(2)]


def parse_wait(text: str, what: str) -> float:
    """Seconds of an age, or 0.

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: neither.
    """
    return 0.0 if text.strip() == "0" else parse_age(text, what)


def parse_shard(text: str, what: str) -> tuple[int, int]:
    """(I, N) of "I/N": the Ith of N parts, 1 <= I <= N <= MOST_SHARDS.

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count <= MOST_SHARDS:
        raise CommandError(f"{what} is {text[:40]!r}, allowed: I/N, as 1/4 to 4/4, N up to {MOST_SHARDS:,}")
    return index, count


def show_age(seconds: float) -> str:
    """An age for people: 5s, 12m, 3h, 9d."""
    for unit in ("d", "h", "m"):
        if seconds >= _AGES[unit]:
            return f"{int(seconds // _AGES[unit])}{unit}"
    return f"{max(0, int(seconds))}s"


def parse_bytes(text: str, what: str = "a size") -> int:
    """A size such as 4g, 512m, 1.5G, 100000, or as it is shown: 211.3 kB.

    As dd and others have it, k, K and KiB are 1024 bytes, kB is 1000.

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b|)\s*", _ungrouped(text).lower())
    if match is None:
        raise CommandError(f"{what} is {text!r}, expected a number with k, m or g, like 512m")
    power = " kmgt".index(match.group(2) or " ")
    amount = float(match.group(1)) * (1000 if match.group(3) == "b" else 1024) ** power
    if amount >= 1 << 63:
        raise CommandError(f"{what} is {text[:40]!r}, allowed: less than 2^63 bytes")
    return int(amount)


def parse_count(text: str, what: str) -> int:
    """A count such as 500, 1k, 2.5m: thousands and millions.

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: not a count.
    """
    number = _whole(text)
    if number is None:
        raise CommandError(f"{what} is {text[:40]!r}, expected {COUNT_FORM}")
    return number


COUNT_FORM = "a whole number, perhaps with k or m, like 500 or 1k"


def _whole(text: str) -> int | None:
    """The count that a text says, None for none."""
    match = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?([km]?)", _ungrouped(text).strip().lower())
    if match is None or (match[2] and not match[3]):
        return None
    whole, part, unit = match[1], match[2] or "", match[3]
    number, parts = int(whole + part) * 1000 ** " km".index(unit or " "), 10 ** len(part)
    return (number + parts // 2) // parts


def _ungrouped(text: str) -> str:
    """A number as gf shows it, without the commas between groups of three digits."""
    return text.replace(",", "") if re.match(r"\s*[0-9]{1,3}(,[0-9]{3})+(?![0-9,])", text) else text


def show_bytes(count: float) -> str:
    """A size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


def counted(number: int, what: str) -> str:
    """A number with its word: "1 document", "2 documents"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def checked_policy(value: str) -> str:
    """The value of --read.

    Raises:
        CommandError: no reading policy of that name.
    """
    try:
        return reading_policy(value)
    except ValueError as error:
        raise CommandError(f"--read is {value!r}, allowed: {error}") from error


def checked_blocks(value: int | None) -> int | None:
    """The value of --read-blocks, None where it is not given.

    Raises:
        CommandError: out of range.
    """
    if value is not None and not 1 <= value <= MOST_BLOCKS:
        raise CommandError(f"--read-blocks is {value}, allowed: 1 to {MOST_BLOCKS}")
    return value
