"""The same cache with other codecs: values are rounded once more, and stored so that these are read. No model."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gfcache import layout
from gfcache.codecs import registry as codecs
from gfcache.codecs import tokens
from gfcache.codecs.casts import STATES
from gfcache.errors import CannotRound

from .bases import known_basis
from .families.registry import where_of
from .header import Header
from .lenders import whole_table, without_lenders
from .parents import ROWS_CODEC, own_row_parts
from .reader import CacheFile
from .writer import SectionData, digests_of, write_cache

# Kinds that hold something of each token: compressed keys, or keys and values.
ROWS = tokens.KINDS | {layout.COMPRESSED_K}
# Codecs of sections that are stored smaller without a loss.
_OF_BYTES = (codecs.ZSTD.name, codecs.LZMA.name, codecs.IDS.name)
# Noted in numerics: the rounding that the state at the end has passed; of rows, see parents.
STATE_CODEC = "state_codec"
ROWS_BASIS = "rows_basis"


@dataclasses.dataclass(frozen=True)
class Coding:
    """Which codecs the values of a cache have passed.

    Attributes:
        rows: of compressed_k, of a model that keeps keys and values of these; a lossless one changes nothing.
        state: of the states, shift states and tail_hidden at the end; those of checkpoints stay as they were computed,
            so that what resumes there gives the bits of a cold run.
        basis: digest of the one that the codec of the rows needs; None where it needs none, or the model's is meant.
    """

    rows: str = codecs.RAW.name
    state: str = codecs.RAW.name
    basis: str | None = None

    @classmethod
    def of(cls, numerics: Mapping[str, Any]) -> Coding:
        """As a header notes it."""
        raw = codecs.RAW.name
        return cls(numerics.get(ROWS_CODEC) or raw, numerics.get(STATE_CODEC) or raw, numerics.get(ROWS_BASIS))

    def noted(self, numerics: Mapping[str, Any]) -> dict[str, Any]:
        """`numerics` of a header with what values have passed; what is lossless is not noted."""
        own = {name: codec for name, codec in ((ROWS_CODEC, self.rows), (STATE_CODEC, self.state)) if is_lossy(codec)}
        own |= {} if self.basis is None else {ROWS_BASIS: self.basis}
        return {n: v for n, v in numerics.items() if n not in (ROWS_CODEC, STATE_CODEC, ROWS_BASIS)} | own

    def is_met_by(self, found: Coding) -> bool:
        """Whether values that have passed `found` are what this asks for: in whatever basis where it names none."""
        return (self.rows, self.state) == (found.rows, found.state) and self.basis in (None, found.basis)

    def basis_for(self, codec: str) -> str | None:
        """Digest of the basis for a section in this codec, None where that needs none."""
        return self.basis if codec in codecs.BASED else None

    @property
    def needs_basis(self) -> bool:
        """Whether the codec of the rows needs a basis, and none is named yet."""
        return self.rows in codecs.BASED and self.basis is None

    @property
    def is_lossy(self) -> bool:
        """Whether any value may differ from what was computed."""
        return is_lossy(self.rows) or is_lossy(self.state)

    @property
    def is_state_lossy(self) -> bool:
        """Whether the state at the end may: from there, nothing goes on as in a cold run."""
        return is_lossy(self.state)

    def codec_of(self, kind: str, default: str, *, at_end: bool = True) -> str:
        """To try for a section. Files that no reader of 1.0 can read anyway store their token ids smaller, too.

        Args:
            default: where nothing is rounded.
            at_end: of a state: it is not that of a checkpoint.
        """
        if kind in ROWS and is_lossy(self.rows):
            return self.rows
        if kind in STATES and at_end and is_lossy(self.state):
            return self.state
        return codecs.IDS.name if kind == layout.TOKEN_IDS and self.is_lossy else default


def is_lossy(codec: str) -> bool:
    """Whether a codec changes values."""
    return codec in codecs.LOSSY


def rounded(array: np.ndarray, dtype: str, where: tokens.Where, coding: Coding) -> np.ndarray:
    """The values of a section as a file of these codecs holds them; of another kind, as they are."""
    wanted = coding.codec_of(where.kind, codecs.RAW.name)
    return codecs.rounded(array, dtype, wanted, where) if is_lossy(wanted) else array


def convert_cache(cache: CacheFile | Path | str, out: Path | str, coding: Coding) -> Header:
    """Write a cache with other codecs (mode 0600), atomically. It keeps its base; blocks that are lent to it become its
    own.

    Args:
        cache: the file, or its path.
        coding: raw leaves values as they are: what an earlier rounding took does not come back.

    Raises:
        CannotRound: values that one codec has rounded would pass another; what a model of others keeps besides.
        DamagedCache, ..., CacheWriteError: see `CacheFile` and `write_cache`.
    """
    with contextlib.ExitStack() as stack:
        file = cache if isinstance(cache, CacheFile) else stack.enter_context(CacheFile(cache))
        passed = _passed(file, coding)
        data: list[SectionData] = []
        for section, values, _ in stack.enter_context(whole_table(file)):
            if section.kind == layout.ROW_DIGESTS:
                continue  # made anew
            if section.kind == layout.ERROR_RECEIPT and passed != Coding.of(file.header.numerics):
                continue  # of other values
            array, at_end = values(), section.position in (None, file.header.tokens)
            if coding.codec_of(section.kind, section.codec, at_end=at_end) != section.codec and at_end:
                dropped = file.header.kept_rows is not None
                where = where_of(file.header.model, section, dropped=dropped, basis=coding.basis)
                array = rounded(array, section.dtype, where, coding)
            default = (
                codecs.ZSTD.name
                if section.codec in (codecs.ZSTD.name, codecs.LZMA.name, codecs.IDS.name)
                else codecs.RAW.name
            )
            codec = coding.codec_of(section.kind, default, at_end=at_end)
            basis = passed.basis_for(codec)
            data.append(dataclasses.replace(SectionData.of(section, array), codec=codec, basis=basis))
        numerics = passed.noted(file.header.numerics)
        header = dataclasses.replace(without_lenders(file.header), numerics=numerics, sections=())
        return write_cache(out, header, [*data, *digests_of(data)])


def _passed(file: CacheFile, coding: Coding) -> Coding:
    """What the values have passed once they are rounded; refuses to round twice what nothing could compute again."""
    header, before = file.header, Coding.of(file.header.numerics)
    has_rows = any(header.of_kind(kind) for kind in ROWS)
    obstacle = obstacle_of(header.model, coding)
    if obstacle is not None:
        raise CannotRound(file.path, obstacle)
    if coding.rows in codecs.BASED:
        if header.kept_rows is not None:
            raise CannotRound(file.path, f"{coding.rows} codes caches of all rows, and rows of this one were dropped")
        if coding.basis is None or known_basis(coding.basis) is None:
            raise CannotRound(file.path, f"{coding.rows} needs the basis of {header.model['name']}, which is not here")
    earlier = {before.rows, *(codec for _, codec in own_row_parts(header))}, {before.state}
    for what, found, wanted in zip(("keys", "state"), earlier, (coding.rows, coding.state), strict=True):
        other = sorted(name for name in found if is_lossy(name) and name != wanted)
        if is_lossy(wanted) and other:
            raise CannotRound(file.path, f"its {what} have been rounded by {other[0]}, and cannot be by {wanted} now")
    rows, basis = (coding.rows, coding.basis) if is_lossy(coding.rows) and has_rows else (before.rows, before.basis)
    if before.basis not in (None, basis):
        raise CannotRound(file.path, f"its keys have been rounded in the basis {str(before.basis)[:16]}")
    return Coding(rows, coding.state if is_lossy(coding.state) else before.state, basis)


def obstacle_of(model: Mapping[str, Any], coding: Coding) -> str | None:
    """Why the values of caches of a header's `model` cannot be rounded so; None where they can.

    Of a model of others, keys and values that all of a whole document has may be.
    """
    layers = model.get("layers")
    if layers is None:
        based = coding.rows in codecs.BASED
        return f"{coding.rows} is of keys and values of models of others, which have a basis" if based else None
    if not coding.is_lossy:
        return None
    if is_lossy(coding.state):
        return f"{model['name']} is a model of others, whose states are kept as they are: leave the codec of states out"
    if model.get("blocks"):
        return f"{model['name']} keeps this document in blocks, whose keys and values are kept as they are"
    if not any(layer["kind"] == "full" for layer in layers):
        return f"no layer of {model['name']} keeps keys and values of every token, and its states are kept as they are"
    return None
