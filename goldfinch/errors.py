"""Errors of the library.

GoldFinchError
├── ConfigError           a model configuration that cannot be built
│   └── ConfigDamaged       a file of one that cannot be understood, or asks for what no model has
├── CheckpointError       weights that cannot be taken
│   ├── WeightsDamaged      a file that cannot be read, or holds what no weights are
│   └── WeightsMismatch     tensors that do not fit the configuration
├── ModelRefused          a model of others that is not taken: code, adapters, quantised, wrong when checked
├── LibraryMissing        the library that runs models of others is not there, or of an unknown version
├── ModelNotFound         no model under that name, path or fingerprint
├── CorpusMissing         a folder of training data that lacks one of its files
├── CorpusDamaged         training data that cannot be read
├── ModelDamaged          a model directory that cannot be understood, or does not match its own fingerprints
│   └── ModelChanged        one that was changed after it was made
├── TokenizerError        a tokenizer that is missing or cannot be used
│   └── TokenizerDamaged    a file that cannot be read, or holds what no tokenizer here has
├── EmptyInput            nothing to pre-fill or to ask
├── QuestionTooLong       a question that is longer than any that is asked
├── ContextTooLong        more tokens than the model has positions for
├── NotText               a document that is a directory, or no plain text
├── InputRefused          an input that is a device or made up by the system, never ends, or is too large
├── CacheMismatch         a cache that belongs to another model, tokenizer or template
├── NotItsDocument        a cache whose token ids are not those of the document that it names
├── NotVerified           a cache that no run of this user made, or recomputed with the same result
├── DeviceError           a device that is not there, or not enough memory
├── SourceError           names that lead to no documents
│   ├── FolderNamed         a folder where files are expected
│   └── NothingFound        no document at all
├── OutputNeeded          a document without a file, and no output named
├── OutputError           a cache that cannot go where it is to go
│   ├── OutputTaken         two documents of one run, one output
│   ├── NoSuchFolder        the folder of an output
│   ├── NotReplaced         what is there belongs to something else
│   └── NotACache           what is there is not a cache, or is a base of what is to be written
├── NoCodecFits           bounds on divergence and bytes that no codecs keep
├── BaseError             a base cache that cannot be continued
│   ├── BaseWithoutPosition it holds no position to resume from
│   ├── BaseTooShort        it has fewer tokens than a block
│   ├── BaseTooDeep         it continues too many others already
│   ├── BaseUnverified      no run of this user made it
│   └── BaseNotRecurrent    the model keeps more than a state
├── RefreshError          a cache that cannot be made anew
│   ├── SourceGone          its source is not there any more
│   ├── SourceLost          its source is gone, or was never noted
│   └── SourceUnknown       nothing readable tells what it was made from
└── MadeRoom              a cache of this run that was removed again for another one
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class GoldFinchError(Exception):
    """Root of everything that the library raises on purpose.

    Attributes:
        hint: what to do next, or None.
    """

    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(GoldFinchError):
    """A model configuration that cannot be built."""


class ConfigDamaged(ConfigError):
    """A file of a configuration that cannot be understood, or asks for what no model has."""


class CheckpointError(GoldFinchError):
    """Weights that cannot be taken."""


class WeightsDamaged(CheckpointError):
    """A file of weights that cannot be read, or holds what no weights are."""


class WeightsMismatch(CheckpointError):
    """Tensors that do not fit the configuration."""


class ModelRefused(GoldFinchError):
    """A model of others that is not taken: it brings code, is an adapter or quantised, or fails its self-check."""


class LibraryMissing(GoldFinchError):
    """A library that something needs is not installed, or of a version that gf does not know: by default that which
    runs models of others."""

    hint = "pip install 'goldfinch-gf[hf]'"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or self.hint)


class ModelNotFound(GoldFinchError):
    """No model under that name, path or fingerprint."""


class CorpusMissing(GoldFinchError):
    """A folder of training data that lacks one of its files."""


class CorpusDamaged(GoldFinchError):
    """Training data that cannot be read; the message names file and line."""


class ModelDamaged(GoldFinchError):
    """A model directory that cannot be understood, or does not match its own fingerprints."""


class ModelChanged(ModelDamaged):
    """A model directory that was changed after it was made.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path, message: str) -> None:
        self.path = path
        super().__init__(message)


class TokenizerError(GoldFinchError):
    """A tokenizer that is missing or cannot be used."""


class TokenizerDamaged(TokenizerError):
    """A file that cannot be read, or holds what no tokenizer here has."""


class EmptyInput(GoldFinchError):
    """Nothing to pre-fill or to ask."""


class QuestionTooLong(GoldFinchError):
    """A question that is longer than any that is asked.

    Attributes:
        found, most: how long it is, and the limit.
        unit: of both: "characters" or "tokens".
    """

    def __init__(self, found: int, most: int, unit: str) -> None:
        self.found, self.most, self.unit = found, most, unit
        super().__init__(
            f"the question has {found:,} {unit}, at most {most:,} are allowed",
            hint="a long text belongs into the document: gf append",
        )


class ContextTooLong(GoldFinchError):
    """More tokens than the model has positions for.

    Attributes:
        found, allowed: tokens.

    Args:
        blocks: why the document is not kept in blocks, or None.
    """

    def __init__(
        self, found: int, allowed: int, model: str, what: str = "the document", *, blocks: str | None = None
    ) -> None:
        self.found, self.allowed = found, allowed
        why = "" if blocks is None else f"; it is not kept in blocks: {blocks}"
        super().__init__(
            f"{what} is {found:,} tokens long, {model} has positions for {allowed:,}",
            hint=f"shorten it, or take a model with a longer context{why}",
        )


class NotText(GoldFinchError):
    """A document that is a directory, or no plain text: PDF, HTML, an image, binary data."""


class InputRefused(GoldFinchError):
    """An input that is a device or made up by the system, never ends, or is too large."""


class CacheMismatch(GoldFinchError):
    """A cache that belongs to another model, tokenizer or template.

    Attributes:
        field: which identity differs ("prefill_fingerprint", "tokenizer_fingerprint", ...).
        found: the value in the cache.
        expected: the value of the model.
    """

    def __init__(self, field: str, found: str, expected: str, *, hint: str | None = None) -> None:
        self.field, self.found, self.expected = field, found, expected
        super().__init__(
            f"the cache does not belong here: {field} is {found or 'absent'}, this model has {expected}",
            hint=hint,
        )


class NotItsDocument(GoldFinchError):
    """A cache whose token ids are not those of the document that it names.

    Attributes:
        path, source: the cache file and the document.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        super().__init__(f"{path}: its token ids are not those of {source}")


class NotVerified(GoldFinchError):
    """A cache that no run of this user made, or recomputed with the same result.

    Attributes:
        path: the cache file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is not verified: no run of yours made it")


class DeviceError(GoldFinchError):
    """A device that is not there, or not enough memory."""


class SourceError(GoldFinchError):
    """Names that lead to no documents."""


class FolderNamed(SourceError):
    """A folder where files are expected.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} is a directory, expected text files")


class NothingFound(SourceError):
    """No document at all.

    Attributes:
        left_out: files and folders that are hidden, ignored by git, or caches, or were not chosen where that was asked.
    """

    def __init__(self, left_out: int, is_choice: bool = False) -> None:
        self.left_out = left_out
        reasons = (
            "hidden, ignored by git, a cache, or not chosen" if is_choice else "hidden, ignored by git, or a cache"
        )
        left = f": all that is there, {left_out:,}, is {reasons}" if left_out else ""
        super().__init__(f"no documents{left}")


class OutputError(GoldFinchError):
    """A cache that cannot go where it is to go.

    Attributes:
        path: the output.
    """

    def __init__(self, path: Path, message: str) -> None:
        self.path, self.folder = path, path.parent
        super().__init__(message)


class OutputNeeded(GoldFinchError):
    """A document without a file, and no output named."""


class OutputTaken(OutputError):
    """Two documents of one run, one output."""


class NoSuchFolder(OutputError):
    """The folder of an output does not exist."""


class NotReplaced(OutputError):
    """What is there belongs to something else."""


class NotACache(OutputError):
    """What is there is not a cache, or one that must stay: a base of what is to be written."""


class NoCodecFits(GoldFinchError):
    """No codecs make a file within the bounds given."""


class BaseError(GoldFinchError):
    """A base cache that cannot be continued.

    Attributes:
        path: the base cache.
        block_tokens: positions to resume from stand at multiples of it.
    """

    def __init__(self, path: Path | None, message: str, block_tokens: int = 0) -> None:
        self.path, self.block_tokens = path, block_tokens
        super().__init__(message)


class BaseWithoutPosition(BaseError):
    """It holds no position to resume from."""


class BaseTooShort(BaseError):
    """It has fewer tokens than a block."""


class BaseTooDeep(BaseError):
    """It continues too many others already."""


class BaseUnverified(BaseError):
    """No run of this user made it, or computed it again with the same result."""


class BaseNotRecurrent(BaseError):
    """The model keeps more than a state."""


class RefreshError(GoldFinchError):
    """A cache that cannot be made anew.

    Attributes:
        path: the cache.
        source: the document that it was made from, or None.
    """

    def __init__(self, path: Path, source: str | None, message: str) -> None:
        self.path, self.source = path, source
        super().__init__(message)


class SourceGone(RefreshError):
    """Its source is not there any more."""


class SourceLost(RefreshError):
    """Its source cannot be read again: it is gone, or was never noted."""


class SourceUnknown(RefreshError):
    """Nothing readable tells what it was made from."""


class MadeRoom(GoldFinchError):
    """A cache of this run that was removed again for another one, to keep the cap of the store.

    Attributes:
        source: the document.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(f"{source}: its cache was removed again, to make room for another document of this call")
