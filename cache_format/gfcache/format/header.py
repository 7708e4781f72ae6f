"""The header of a cache file: its fields and its JSON form."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gfcache import layout
from gfcache.codecs import registry as codecs

from .families.registry import COMPUTE_KINDS, KINDS, family_of

MAX_CONFIG_COUNT = 1 << 31
# Fields of a section that only some kinds have.
OPTIONAL = ("position", "token_start", "layer", "role", "rotated", "basis")


class HeaderError(ValueError):
    """A header field that breaks SPEC.md; the reader turns it into DamagedCache with its rule."""

    def __init__(self, rule: str, found: object, expected: object) -> None:
        self.rule, self.found, self.expected = rule, found, expected
        super().__init__(f"{rule}: found {found}, expected {expected}")


@dataclass(frozen=True)
class Section:
    """One row of the section table.

    Attributes:
        name: unique in the file.
        kind: what it holds (`families`).
        dtype, shape: of the decoded array.
        codec: how its bytes are stored (`codecs.registry`).
        depends_on: "prefill" or "model": which fingerprint must match to use it.
        required: a reader that does not know the kind must refuse the file.
        offset: bytes from the payload start (SPEC 2.3), a multiple of 64.
        raw_bytes, stored_bytes: decoded and stored size.
        sha256: of the stored bytes, hex.
        position: tokens before this state (states, tail_hidden); None elsewhere.
        token_start: first token of a per-token section; None elsewhere.
        layer: layer number (attention_kv), or the first of the layers that it stacks; None elsewhere.
        role: of a state: "conv", "recurrent", ...; None elsewhere.
        rotated: keys: whether they are as queries meet them; None elsewhere.
        basis: SHA-256 of the basis that its codec needs, hex; None where it needs none.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    depends_on: str
    required: bool
    offset: int
    raw_bytes: int
    stored_bytes: int
    sha256: str
    position: int | None = None
    token_start: int | None = None
    layer: int | None = None
    role: str | None = None
    rotated: bool | None = None
    basis: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether this version knows kind, dtype and codec; what it does not know it skips, unless it is required."""
        return self.kind in KINDS and self.dtype in layout.DTYPES and self.codec in codecs.NAMES


@dataclass(frozen=True)
class Header:
    """What a cache file says of itself.

    Attributes:
        tokens: T, tokens that the cache covers.
        model: name, model_type, config (our field names), prefill_fingerprint, model_fingerprint; layers, of models
            that are not ours.
        tokenizer: fingerprint (or None) and vocab_size.
        template: prefix_fingerprint, document_start, document_end (token range of the document), and fingerprint, of
            the whole template, where it was noted.
        numerics: device, compute_dtype, backend, threads, library; not part of the identity.
        source: name, sha256, bytes, modified_at of the document, or None.
        parent: the base cache that this one continues (digest, tokens, name, path), or None.
        lenders: the files (digest, name, path) that hold some of the blocks in its place, by `model.lent`.
        created_at: UTC, ISO 8601.
        writer: program and version.
        sections: the table.
        format_version: (major, minor) from the prefix.
        digest: SHA-256 of prefix and header, hex: the identity of the file, for it covers every checksum.
    """

    tokens: int
    model: dict[str, Any]
    tokenizer: dict[str, Any]
    template: dict[str, Any]
    numerics: dict[str, Any]
    created_at: str
    writer: str
    source: dict[str, Any] | None = None
    parent: dict[str, Any] | None = None
    lenders: tuple[dict[str, Any], ...] = ()
    sections: tuple[Section, ...] = ()
    format_version: tuple[int, int] = (layout.FORMAT_MAJOR, layout.FORMAT_MINOR)
    digest: str = field(default="", compare=False)

    @property
    def first_token(self) -> int:
        """First token of the file's own part: how many the parent holds, 0 without one."""
        return 0 if self.parent is None else int(self.parent["tokens"])

    @property
    def compute_dtype(self) -> str | None:
        """What numerics say, else what the sections are in; None in a file without any section that tells."""
        noted: str | None = self.numerics.get("compute_dtype")
        return noted or next((s.dtype for s in self.sections if s.is_known and s.kind in COMPUTE_KINDS), None)

    def of_kind(self, kind: str) -> list[Section]:
        """The sections of a kind that this version knows how to read."""
        return list(self._by_kind.get(kind, ()))

    @functools.cached_property
    def kept_rows(self) -> int | None:
        """Rows that are stored in a file that dropped others: of compressed_k, or of each head of keys and values; None
        where none was dropped."""
        found = self.of_kind(layout.KEPT_POSITIONS)
        if not found:
            return None
        if len(found[0].shape) == 3:
            return found[0].shape[2]
        return sum(s.shape[0] if s.shape else 0 for s in self.of_kind(layout.COMPRESSED_K))

    @functools.cached_property
    def _by_kind(self) -> dict[str, list[Section]]:
        """There may be thousands of checkpoints: the table is gone through once."""
        found: dict[str, list[Section]] = {}
        for section in self.sections:
            if section.is_known:
                found.setdefault(section.kind, []).append(section)
        return found

    def to_json(self) -> bytes:
        """The header's bytes: UTF-8 JSON, sorted keys, no blanks."""
        values = asdict(self)
        del values["format_version"], values["digest"]
        if not self.lenders:
            del values["lenders"]
        for section in values["sections"]:
            for optional in OPTIONAL:
                if section[optional] is None:
                    del section[optional]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


_SECTION_FIELDS = frozenset(field.name for field in fields(Section))
_DIGEST = re.compile("[0-9a-f]{64}")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def parse_header(data: bytes, version: tuple[int, int], digest: str) -> Header:
    """Read and check the header's JSON (SPEC rules R6 to R13).

    Raises:
        HeaderError: a rule does not hold.
    """
    try:
        values = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, HeaderError):
            raise
        raise HeaderError("R6", "a header that is not JSON", "one UTF-8 JSON object") from error
    demand(isinstance(values, dict), "R6", type(values).__name__, "one JSON object")
    _check_values(values, has_escapes=b"\\u" in data)
    kinds: dict[str, Any] = {
        "tokens": int, "model": dict, "tokenizer": dict, "template": dict, "numerics": dict,
        "created_at": str, "writer": str, "sections": list,
    }  # fmt: skip
    for name, kind in kinds.items():
        found = values.get(name)
        demand(isinstance(found, kind) and not isinstance(found, bool), "R7", f"{name}={found!r:.60}", kind.__name__)
    for name in ("source", "parent"):
        demand(values.get(name) is None or isinstance(values[name], dict), "R7", f"{name}", "an object or null")
    demand(0 < values["tokens"] <= layout.MAX_TOKENS, "R8", values["tokens"], f"1 to {layout.MAX_TOKENS} tokens")
    _check_identity(values)
    demand(len(values["sections"]) <= layout.MAX_SECTIONS, "R9", len(values["sections"]), layout.MAX_SECTIONS)
    sections = tuple(_parse_section(row) for row in values["sections"])
    demand(len({s.name for s in sections}) == len(sections), "R9", "two sections of one name", "unique names")
    known = {f.name for f in fields(Header)} - {"format_version", "digest"}
    values = {k: v for k, v in values.items() if k in known}  # unknown fields of a later minor version are skipped
    values["sections"] = sections
    values["lenders"] = tuple(values.get("lenders") or ())
    return Header(**values, format_version=version, digest=digest)


def _check_identity(values: dict[str, Any]) -> None:
    model, template = values["model"], values["template"]
    for name in ("prefill_fingerprint", "model_fingerprint"):
        demand(_is_digest(model.get(name)), "R7", f"model.{name}={model.get(name)!r:.80}", "64 hex digits")
    for name in ("name", "model_type"):
        demand(isinstance(model.get(name), str), "R7", f"model.{name}", "a text")
    demand(isinstance(model.get("config"), dict), "R7", "model.config", "an object")
    for name in layout.CONFIG_COUNTS:
        value = model["config"].get(name)
        holds = _is_count(value) and 0 < value <= MAX_CONFIG_COUNT
        demand(holds, "R7", f"model.config.{name}={value!r:.40}", f"1 to {MAX_CONFIG_COUNT}")
    problem = family_of(model).check(model)
    demand(problem is None, "R7", *(problem or ("", "")))
    _check_numerics(values["numerics"])
    _check_source(values.get("source"))
    _check_parent(values.get("parent"), values["tokens"])
    _check_lenders(values.get("lenders"), model.get("lent") or ())
    fingerprint = values["tokenizer"].get("fingerprint")
    demand(fingerprint is None or _is_digest(fingerprint), "R7", "tokenizer.fingerprint", "64 hex digits or null")
    found, expected = values["tokenizer"].get("vocab_size"), model["config"]["vocab_size"]
    holds = _is_count(found) and found == expected
    demand(holds, "R7", f"tokenizer.vocab_size={found!r:.40}", f"{expected}, that of model.config")
    demand(_is_digest(template.get("prefix_fingerprint")), "R7", "template.prefix_fingerprint", "64 hex digits")
    whole = template.get("fingerprint")
    demand(whole is None or _is_digest(whole), "R7", "template.fingerprint", "64 hex digits or null")
    start, end = template.get("document_start"), template.get("document_end")
    holds = _is_count(start) and _is_count(end) and start <= end <= values["tokens"]
    demand(holds, "R8", f"document tokens {start} to {end}", f"a range inside 0 to {values['tokens']}")


def _check_numerics(numerics: dict[str, Any]) -> None:
    dtype, threads = numerics.get("compute_dtype"), numerics.get("threads")
    allowed = ", ".join(layout.COMPUTE_DTYPES)
    holds = dtype is None or dtype in layout.COMPUTE_DTYPES
    demand(holds, "R7", f"numerics.compute_dtype={dtype!r:.40}", f"{allowed} or null")
    demand(threads is None or _is_count(threads), "R7", f"numerics.threads={threads!r:.40}", "a count or null")
    for name in ("device", "backend", "library", "rows_codec", "state_codec", "dropping"):
        found = numerics.get(name)
        demand(found is None or isinstance(found, str), "R7", f"numerics.{name}={found!r:.40}", "a text or null")
    basis = numerics.get("rows_basis")
    demand(basis is None or _is_digest(basis), "R7", f"numerics.rows_basis={basis!r:.80}", "64 hex digits or null")
    parts = numerics.get("rows_parts")
    holds = parts is None or (isinstance(parts, list) and 0 < len(parts) <= layout.MAX_SECTIONS)
    holds = holds and all(
        isinstance(p, list) and len(p) == 2 and _is_count(p[0]) and isinstance(p[1], str) for p in parts or ()
    )
    demand(holds, "R7", f"numerics.rows_parts={parts!r:.40}", "a list of [first token, codec], or null")


def _check_source(source: dict[str, Any] | None) -> None:
    if source is None:
        return
    for name in ("name", "path", "relative_path", "sha256", "modified_at", "encoding", "prepared"):
        demand(source.get(name) is None or isinstance(source[name], str), "R7", f"source.{name}", "a text or null")
    demand(source.get("bytes") is None or _is_count(source["bytes"]), "R7", "source.bytes", "a count or null")


def _check_parent(parent: dict[str, Any] | None, tokens: int) -> None:
    if parent is None:
        return
    _check_file("parent", parent)
    held = parent.get("tokens")
    demand(_is_count(held) and 0 < int(held or 0) < tokens, "R8", f"parent.tokens={held!r:.40}", f"1 to {tokens - 1}")


def _check_lenders(lenders: Any, lent: Sequence[int]) -> None:
    """Each file is named once, and lends something: what is named is kept."""
    holds = lenders is None or (isinstance(lenders, list) and len(lenders) <= layout.MAX_LENDERS)
    demand(holds, "R7", f"lenders {lenders!r:.40}", f"a list of at most {layout.MAX_LENDERS}")
    for lender in lenders or ():
        demand(isinstance(lender, dict), "R7", f"a lender {lender!r:.40}", "an object")
        _check_file("lenders", lender)
    digests = {lender["digest"] for lender in lenders or ()}
    demand(len(digests) == len(lenders or ()), "R7", "a lender that is named twice", "each once")
    named = {*lent} - {0}
    demand(named == {*range(1, len(digests) + 1)}, "R13", f"model.lent naming {len(named)} lenders", len(digests))


def _check_file(field: str, noted: dict[str, Any]) -> None:
    """Another cache file, as a header names it."""
    demand(_is_digest(noted.get("digest")), "R7", f"{field}.digest={noted.get('digest')!r:.80}", "64 hex digits")
    for name in ("name", "path"):
        holds = isinstance(noted.get(name), str) and 0 < len(noted[name]) <= layout.MAX_PATH_CHARACTERS
        demand(holds, "R7", f"{field}.{name}", "a text")


def _parse_section(row: Any) -> Section:
    # A file may have thousands: what is to be said of a fault is put into words where there is one.
    demand(isinstance(row, dict), "R9", type(row).__name__, "an object per section")
    for name in ("name", "kind", "dtype", "codec", "depends_on", "sha256"):
        if not _is_short_text(row.get(name)):
            raise HeaderError("R9", name, "a short text")
    if not _is_digest(row["sha256"]):
        raise HeaderError("R9", f"sha256={row['sha256']!r:.80}", "64 hex digits")
    if row["depends_on"] not in layout.DEPENDS_ON:
        raise HeaderError("R9", f"depends_on={row['depends_on']!r}", " or ".join(layout.DEPENDS_ON))
    if not isinstance(row.get("required"), bool):
        raise HeaderError("R9", "required", "true or false")
    for name in ("offset", "raw_bytes", "stored_bytes"):
        if not _is_count(row.get(name)):
            raise HeaderError("R10", f"{name}={row.get(name)!r:.40}", "a count below 2^63")
    if row["offset"] % layout.ALIGNMENT:
        raise HeaderError("R10", row["offset"], f"a multiple of {layout.ALIGNMENT}")
    for name in ("position", "token_start", "layer"):
        if not (row.get(name) is None or _is_count(row[name])):
            raise HeaderError("R10", f"{name}={row.get(name)!r:.40}", "a count")
    if not (row.get("role") is None or _is_short_text(row["role"])):
        raise HeaderError("R9", f"role={row['role']!r:.40}", "a short text")
    if row.get("rotated") not in (None, True, False):
        raise HeaderError("R9", f"rotated={row.get('rotated')!r:.40}", "true or false")
    if not (row.get("basis") is None or _is_digest(row["basis"])):
        raise HeaderError("R9", f"basis={row['basis']!r:.80}", "64 hex digits")
    shape = row.get("shape")
    if not (isinstance(shape, list) and all(map(_is_count, shape))):
        raise HeaderError("R9", f"shape {shape!r:.60}", "a list of counts")
    return Section(**({k: v for k, v in row.items() if k in _SECTION_FIELDS} | {"shape": tuple(shape)}))


def _is_short_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= layout.MAX_NAME_CHARACTERS


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def demand(holds: bool, rule: str, found: object, expected: object) -> None:
    """Raise HeaderError unless it holds."""
    if not holds:
        raise HeaderError(rule, found, expected)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    demand(len(out) == len(pairs), "R6", "a key that occurs twice", "unique keys")
    return out


def _finite(text: str) -> float:
    """A number with a point or an exponent, or one of the words NaN, Infinity and -Infinity."""
    value = float(text)
    demand(math.isfinite(value), "R6", text[:40], "finite numbers")
    return value


def _check_values(values: dict[str, Any], *, has_escapes: bool) -> None:
    """Refuse what other programs stumble over: deep nesting (R6); text that is not Unicode or holds NUL (R7).

    Args:
        has_escapes: the JSON writes characters by their numbers: only so can it hold half of a surrogate pair, which no
            file name, database or terminal takes, or NUL. Thousands of sections are not searched for nothing.
    """
    level: list[Any] = [values]
    for _ in range(layout.MAX_NESTING):
        below: list[Any] = []
        for value in level:
            children = value if isinstance(value, list) else value.values()
            if has_escapes:
                for text in (child for child in (*value, *children) if isinstance(child, str)):
                    demand(_NO_TEXT.search(text) is None, "R7", f"text {text!r:.60}", "Unicode characters without NUL")
            below += [child for child in children if isinstance(child, (dict, list))]
        if not below:
            return
        level = below
    raise HeaderError("R6", "deeper nesting", f"at most {layout.MAX_NESTING} levels")
