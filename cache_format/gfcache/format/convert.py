"""The same cache with other codecs: values are rounded once more, and stored so that these are read. No model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gfcache import layout
from gfcache.codecs import registry as codecs
from gfcache.codecs.casts import STATES

from .header import Header
from .reader import CacheFile
from .writer import SectionData, digests_of, write_cache

# Noted in numerics: the rounding that compressed_k and states have passed.
ROWS_CODEC, STATE_CODEC = "rows_codec", "state_codec"


@dataclasses.dataclass(frozen=True)
class Coding:
    """Which codecs the values of a cache have passed.

    Attributes:
        rows: of compressed_k; a lossless one changes nothing.
        state: of states, shift states and tail_hidden, those of checkpoints, too.
    """

    rows: str = codecs.RAW.name
    state: str = codecs.RAW.name

    @classmethod
    def of(cls, numerics: Mapping[str, Any]) -> Coding:
        """As a header notes it."""
        raw = codecs.RAW.name
        return cls(numerics.get(ROWS_CODEC) or raw, numerics.get(STATE_CODEC) or raw)

    def noted(self, numerics: Mapping[str, Any]) -> dict[str, Any]:
        """`numerics` of a header with what values have passed; what is lossless is not noted."""
        own = {name: codec for name, codec in ((ROWS_CODEC, self.rows), (STATE_CODEC, self.state)) if is_lossy(codec)}
        return {n: v for n, v in numerics.items() if n not in (ROWS_CODEC, STATE_CODEC)} | own

    @property
    def is_lossy(self) -> bool:
        """Whether any value may differ from what was computed."""
        return is_lossy(self.rows) or is_lossy(self.state)

    def codec_of(self, kind: str, default: str) -> str:
        """To try for a section. Files that no reader of 1.0 can read anyway store their token ids smaller, too."""
        if kind == layout.COMPRESSED_K and is_lossy(self.rows):
            return self.rows
        if kind in STATES and is_lossy(self.state):
            return self.state
        return codecs.LZMA.name if kind == layout.TOKEN_IDS and self.is_lossy else default


def is_lossy(codec: str) -> bool:
    """Whether a codec changes values."""
    return codec in codecs.LOSSY


def rounded(array: np.ndarray, dtype: str, kind: str, coding: Coding) -> np.ndarray:
    """The values of a section as a file of these codecs holds them; of another kind, as they are."""
    wanted = coding.codec_of(kind, codecs.RAW.name)
    return codecs.rounded(array, dtype, wanted) if is_lossy(wanted) else array


def convert_cache(path: Path | str, out: Path | str, coding: Coding) -> Header:
    """Write a cache with other codecs (mode 0600), atomically. It keeps its base.

    Args:
        path: the file.
        coding: raw leaves values as they are: what an earlier rounding took does not come back.

    Raises:
        DamagedCache, ..., CacheWriteError: see `CacheFile` and `write_cache`.
    """
    with CacheFile(path) as file:
        before = Coding.of(file.header.numerics)
        passed = Coding(
            *(new if is_lossy(new) else old for new, old in ((coding.rows, before.rows), (coding.state, before.state)))
        )
        data: list[SectionData] = []
        for section in file.header.sections:
            if not section.is_known or section.kind == layout.ROW_DIGESTS:
                continue  # of a later version, or made anew
            array = file.array(section)
            if coding.codec_of(section.kind, section.codec) != section.codec:
                array = rounded(array, section.dtype, section.kind, coding)
            default = codecs.ZSTD.name if section.codec in (codecs.ZSTD.name, codecs.LZMA.name) else codecs.RAW.name
            codec = coding.codec_of(section.kind, default)
            data.append(dataclasses.replace(SectionData.of(section, array), codec=codec))
        numerics = passed.noted(file.header.numerics)
        header = dataclasses.replace(file.header, numerics=numerics, sections=())
        return write_cache(out, header, [*data, *digests_of(data)])
