"""What arithmetic made a cache. Knows no torch, as headers of files are read without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gfcache import Coding

from goldfinch.errors import CacheMismatch

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

# Names of dtypes in torch and numpy, and in files and headers.
FILE_DTYPES = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}
# What follows the backend, in a header, of a document that was computed together with others.
_PACKED = " packed"


def file_dtype(dtype: object) -> str:
    """What files call a dtype of torch or numpy: "f32" for torch.float32."""
    return FILE_DTYPES[str(dtype).removeprefix("torch.")]


@dataclass(frozen=True)
class Numerics:
    """How the values of a cache were computed. Not part of its identity, so files travel between devices.

    Attributes:
        device: kind of device: "cpu", "cuda".
        compute_dtype: "f64", "f32" or "bf16".
        backend: what ran the layers: "torch", "native", "numpy", "triton".
        threads: on a CPU; None elsewhere.
        library: torch, or numpy, and its version.
        packed: computed together with other documents: products of other shapes round otherwise.
        rows_codec, state_codec: whose rounding compressed_k, and the state at the end, have passed since; None where
            nothing was rounded.
        rows_basis: digest of the basis that the codec of rows needed; None where it needed none.
        dropping: the policy that dropped rows and the share that it kept ("h2o 0.2"), None where all are there.

    A field is None where a file does not tell.
    """

    device: str | None = None
    compute_dtype: str | None = None
    backend: str | None = None
    threads: int | None = None
    library: str | None = None
    packed: bool = False
    rows_codec: str | None = None
    state_codec: str | None = None
    dropping: str | None = None
    rows_basis: str | None = None

    @property
    def coding(self) -> Coding:
        """The codecs."""
        return Coding.of(self._codecs())

    def _codecs(self) -> dict[str, Any]:
        found = {"rows_codec": self.rows_codec, "state_codec": self.state_codec}
        found |= {"rows_basis": self.rows_basis}
        return {name: codec for name, codec in found.items() if codec is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Numerics:
        """From the numerics of a header (SPEC 2.2), whose types the reader has checked; unknown fields are left out."""
        backend: str | None = values.get("backend")
        packed = backend is not None and backend.endswith(_PACKED)
        return cls(
            values.get("device"),
            values.get("compute_dtype"),
            backend.removesuffix(_PACKED) if backend is not None else None,
            values.get("threads"),
            values.get("library"),
            packed,
            values.get("rows_codec"),
            values.get("state_codec"),
            values.get("dropping"),
            values.get("rows_basis"),
        )

    def to_dict(self) -> dict[str, Any]:
        """As headers and records of measurements hold them."""
        return (
            {
                "device": self.device,
                "compute_dtype": self.compute_dtype,
                "backend": f"{self.backend}{_PACKED}" if self.packed else self.backend,
                "threads": self.threads,
                "library": self.library,
            }
            | self._codecs()
            | ({} if self.dropping is None else {"dropping": self.dropping})
        )


def numerics_of(model: LanguageModel, *, packed: bool = False) -> Numerics:
    """How this model computes here and now."""
    device, dtype = model.device.type, file_dtype(model.dtype)
    return Numerics(device, dtype, model.executor.name, model.threads, model.library, packed)


def numerics_difference(
    numerics: Numerics, model: LanguageModel, *, packing: bool = True
) -> tuple[str, str, str] | None:
    """(field, value of the cache, value of the model) of the first numerics that change the bits, None if none does.

    Args:
        packing: count being packed with other documents as a difference.
    """
    return difference_between(numerics, numerics_of(model), packing=packing)


def difference_between(
    numerics: Numerics, own: Numerics, *, packing: bool = True, library: bool = False
) -> tuple[str, str, str] | None:
    """(field, value of the cache, value here) of the first numerics that differ, None if none does.

    Args:
        packing: count being packed with other documents as a difference.
        library: count another version of the library, as for a model that a library runs.
    """
    counted = (numerics if packing else replace(numerics, packed=False)).to_dict()
    found, here = numerics.to_dict(), own.to_dict()
    for name in ("device", "compute_dtype", "backend", "threads", *(("library",) if library else ())):
        if counted[name] != here[name]:
            return name, str(found[name]), str(here[name])
    return None


def check_parent_dtype(parent: Numerics, dtype: str) -> None:
    """Refuse to continue a parent in another dtype ("f32", "bf16", "f64"): file and parent are joined as they are.

    Raises:
        CacheMismatch: naming both.
    """
    if parent.compute_dtype != dtype:
        hint = "leave out --dtype, or pre-fill the base again with it"
        raise CacheMismatch("numerics.compute_dtype", str(parent.compute_dtype), dtype, hint=hint)
