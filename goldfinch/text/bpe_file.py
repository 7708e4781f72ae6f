"""What a tokenizer.json may hold: a closed list of parts, with limits.

The file may come from a stranger, and the library that reads it (Hugging Face `tokenizers`) takes patterns that never
end, tables that make it panic, replacements that grow without bound and settings that cut or pad every text. So the
parts that a byte-pair tokenizer needs are looked at one by one, and the library is given no others. What adds tokens of
its own around a text (`post_processor`) is never used here and left out.

Taken are the parts of published byte-pair tokenizers: GPT-2, GPT-NeoX, Llama 3 and Qwen 2 (bytes as letters), Llama 2
and Mistral ("▁" for a space, bytes as tokens). Every byte must have a token, else text would be lost without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from goldfinch.models.config import MOST

from .json_files import is_count, is_text, parse_json

MOST_BYTES = 64 << 20
_MOST_TOKENS = MOST["vocab_size"]
_MOST_ADDED, _MOST_ADDED_TEXT = 4096, 1 << 17
_MOST_TOKEN = 1024  # characters
_MOST_PARTS = 8  # of a sequence
# Patterns that cut texts into words, of published tokenizers; an unknown one may take time without end.
PATTERNS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "qwen-2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
}
_BEHAVIOURS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Accepted:
    """A tokenizer.json as the library is given it.

    Attributes:
        text: JSON of accepted parts only.
        added_tokens: ids by their text.
        highest_id: of all tokens.
    """

    text: str
    added_tokens: dict[str, int]
    highest_id: int


@lru_cache(maxsize=1)
def accepted(data: bytes, *, every_byte: bool = True) -> Accepted:
    """The parts of a tokenizer.json that are used; looked at once where a process loads a model several times.

    Args:
        every_byte: refuse one that lacks a token for a byte. Models of others have such (SmolLM2 lacks some control
            characters); they read text without these, as they always did.

    Raises:
        ValueError: a part that is not accepted, named.
    """
    values = parse_json(data)
    _demand(isinstance(values, dict), "it", values, "a JSON object")
    known = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
             "decoder", "model"}  # fmt: skip
    for name in values:
        _demand(name in known, "a field", name, ", ".join(sorted(known)))
    for name in ("truncation", "padding"):
        _demand(values.get(name) is None, name, values.get(name), "null: no text may be cut or filled up")
    model = _model(values.get("model"))
    added = _added_tokens(values.get("added_tokens"))
    pre_tokenizer = _part(values.get("pre_tokenizer"), "pre_tokenizer", _PRE_TOKENIZERS)
    kept = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _part(values.get("normalizer"), "normalizer", _NORMALIZERS),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _part(values.get("decoder"), "decoder", _DECODERS),
        "model": model,
    }
    letters = _uses(pre_tokenizer, "ByteLevel")
    needed = _byte_letters() if letters else [f"<0x{b:02X}>" for b in range(256)]
    _demand(letters or model["byte_fallback"], "byte_fallback", model["byte_fallback"], "true without ByteLevel")
    missing = next((token for token in needed if token not in model["vocab"]), None)
    _demand(missing is None or not every_byte, "the vocabulary", f"without {missing!r}", "a token for every byte")
    added_ids: dict[str, int] = {token["content"]: token["id"] for token in added}
    highest = max([*model["vocab"].values(), *added_ids.values()])
    # Comparing is quicker than writing, and the parsed file has no two names of one kind.
    return Accepted(data.decode() if kept == values else json.dumps(kept), added_ids, highest)


def _demand(holds: bool, what: str, found: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{what} is {found!r:.60}, allowed: {allowed}")


def _model(model: Any) -> dict[str, Any]:
    """A BPE with its vocabulary and merges, of sizes that fit."""
    _demand(isinstance(model, dict), "model", model, "a JSON object")
    _demand(model.get("type", "BPE") == "BPE", "type of the model", model.get("type"), "BPE")
    nothing: dict[str, Check] = {
        "dropout": lambda v: v is None or (v == 0 and not isinstance(v, bool)),
        "unk_token": lambda v: v is None or is_text(v, _MOST_TOKEN),
        "continuing_subword_prefix": lambda v: v is None or v == "",
        "end_of_word_suffix": lambda v: v is None or v == "",
        "fuse_unk": _is_flag,
        "byte_fallback": _is_flag,
        "ignore_merges": _is_flag,
    }
    for name in model:
        _demand(name in nothing or name in ("type", "vocab", "merges"), "a field of the model", name, "those of BPE")
    for name, check in nothing.items():
        _demand(
            check(model.get(name)), f"{name} of the model", model.get(name), "as published byte-pair models have it"
        )
    vocab, merges = model.get("vocab"), model.get("merges")
    _demand(isinstance(vocab, dict) and len(vocab) <= _MOST_TOKENS, "vocab", type(vocab).__name__, "an object of ids")
    ids = set(vocab.values()) if all(type(token_id) is int for token_id in vocab.values()) else set()
    _demand(len(ids) == len(vocab) > 0, "vocab", "without a whole number of its own for every token", "an id for each")
    _demand(min(ids) >= 0 and max(ids) < _MOST_TOKENS, "an id", max(ids), f"0 to {_MOST_TOKENS - 1}")
    longest = max(vocab, key=len)
    _demand("" not in vocab and len(longest) <= _MOST_TOKEN, "a token", longest, f"1 to {_MOST_TOKEN} characters")
    _demand(isinstance(merges, list) and len(merges) <= _MOST_TOKENS, "merges", type(merges).__name__, "a list")
    odd = next((merge for merge in merges if not _is_merge(merge)), None)
    _demand(odd is None, "a merge", odd, "two tokens")
    flags = ("fuse_unk", "byte_fallback", "ignore_merges")
    return {
        "type": "BPE", "dropout": None, "unk_token": model.get("unk_token"), "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "vocab": vocab, "merges": merges, **{name: bool(model.get(name)) for name in flags},
    }  # fmt: skip


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_merge(merge: object) -> bool:
    if isinstance(merge, list) and len(merge) == 2:
        return isinstance(merge[0], str) and isinstance(merge[1], str)
    return isinstance(merge, str) and len(merge) <= 2 * _MOST_TOKEN + 1


def _added_tokens(tokens: Any) -> list[dict[str, Any]]:
    """Texts that are one token each wherever they stand."""
    tokens = [] if tokens is None else tokens
    _demand(isinstance(tokens, list) and len(tokens) <= _MOST_ADDED, "added_tokens", type(tokens).__name__,
            f"a list of up to {_MOST_ADDED}")  # fmt: skip
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for token in tokens:
        _demand(isinstance(token, dict), "an added token", token, "a JSON object")
        for name in token:
            _demand(name in ("id", "content", *flags), "a field of an added token", name, "id, content and flags")
        content = token.get("content")
        _demand(is_text(content, _MOST_TOKEN // 4) and content != "", "an added token", content, "a short text")
        _demand(is_count(token.get("id"), _MOST_TOKENS), f"the id of {content!r}", token.get("id"),
                f"0 to {_MOST_TOKENS - 1}")  # fmt: skip
        for name in flags:
            _demand(_is_flag(token.get(name)), f"{name} of {content!r}", token.get(name), "true or false")
    held = sum(len(token["content"]) for token in tokens)
    _demand(held <= _MOST_ADDED_TEXT, "the text of added tokens", f"{held:,} characters", f"up to {_MOST_ADDED_TEXT:,}")
    return [{"id": t["id"], "content": t["content"], **{name: bool(t.get(name)) for name in flags}} for t in tokens]


def _part(part: Any, what: str, types: dict[str, dict[str, Check]], inside: bool = False) -> dict[str, Any] | None:
    """A part of one of the known types, with its known fields; a Sequence of them, not nested."""
    if part is None and not inside:
        return None
    _demand(isinstance(part, dict), what, part, "a JSON object")
    kind = part.get("type")
    if kind == "Sequence" and not inside:
        name = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}[what]
        parts = part.get(name)
        fits = isinstance(parts, list) and 0 < len(parts) <= _MOST_PARTS and set(part) == {"type", name}
        _demand(fits, f"{what} Sequence", parts, f"1 to {_MOST_PARTS} parts")
        return {"type": kind, name: [_part(p, what, types, inside=True) for p in parts]}
    _demand(isinstance(kind, str) and kind in types, f"{what}", kind, ", ".join((*types, "Sequence of these")))
    checks = types[kind]
    for name, value in part.items():
        if name != "type":
            holds = name in checks and checks[name](value)
            _demand(holds, f"{name} of {what} {kind}", value, "what published byte-pair tokenizers have")
    # A replacement that is longer than what it replaces grows with every part of a sequence.
    if kind == "Replace":
        found = part.get("pattern", {}).get("String", "")
        _demand(len(part.get("content", "")) <= len(found), f"content of {what} Replace", part.get("content"),
                "not longer than the pattern")  # fmt: skip
    return dict(part)


def _is_pattern(value: Any) -> bool:
    """{"String": text} or {"Regex": one of the published}."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    return value.get("Regex") in PATTERNS.values() or _is_string(value)


def _is_string(value: Any) -> bool:
    return (
        isinstance(value, dict) and set(value) == {"String"} and is_text(value["String"], 64) and value["String"] != ""
    )


def _short(most: int) -> Check:
    return lambda value: is_text(value, most)


def _one_of(*known: object) -> Check:
    return lambda value: value in known


_BYTE_LEVEL: dict[str, Check] = {name: _is_flag for name in ("add_prefix_space", "trim_offsets", "use_regex")}
_METASPACE: dict[str, Check] = {
    "replacement": lambda value: is_text(value, 1) and value != "", "add_prefix_space": _is_flag, "split": _is_flag,
    "prepend_scheme": _one_of("first", "never", "always"),
}  # fmt: skip
_REPLACE: dict[str, Check] = {"pattern": _is_string, "content": _short(64)}
_NORMALIZERS: dict[str, dict[str, Check]] = {
    "NFC": {}, "NFD": {}, "NFKC": {}, "NFKD": {}, "Replace": _REPLACE, "Prepend": {"prepend": _short(8)},
}  # fmt: skip
_PRE_TOKENIZERS: dict[str, dict[str, Check]] = {
    "ByteLevel": _BYTE_LEVEL, "Digits": {"individual_digits": _is_flag}, "Metaspace": _METASPACE,
    "Split": {"pattern": _is_pattern, "behavior": _one_of(*_BEHAVIOURS), "invert": _is_flag},
}  # fmt: skip
_DECODERS: dict[str, dict[str, Check]] = {
    "ByteLevel": _BYTE_LEVEL, "Metaspace": _METASPACE, "Replace": _REPLACE, "ByteFallback": {}, "Fuse": {},
    "Strip": {"content": _short(1), "start": lambda v: is_count(v, 9), "stop": lambda v: is_count(v, 9)},
}  # fmt: skip


def _uses(part: dict[str, Any] | None, kind: str) -> bool:
    parts = [] if part is None else part.get("pretokenizers", [part])
    return any(p["type"] == kind for p in parts)


def _byte_letters() -> list[str]:
    """The letters that stand for bytes in GPT-2's vocabulary: printable ones for themselves, others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]
