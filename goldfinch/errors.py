"""Errors of the library.

GoldFinchError
├── ConfigError           a model configuration that cannot be built
├── CheckpointError       weights that do not fit the configuration
├── ModelNotFound         no model under that name, path or fingerprint
├── CorpusMissing         a folder of training data that lacks one of its files
├── ModelDamaged          a model directory that does not match its own fingerprints
├── TokenizerError        a tokenizer that is missing or cannot be read
├── EmptyInput            nothing to pre-fill or to ask
├── NotText               a document that is a directory, PDF, HTML or binary data
├── CacheMismatch         a cache that belongs to another model, tokenizer or template
└── DeviceError           a device that is not there, or not enough memory
"""

from __future__ import annotations


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


class CheckpointError(GoldFinchError):
    """Weights that do not fit the configuration."""


class ModelNotFound(GoldFinchError):
    """No model under that name, path or fingerprint."""


class CorpusMissing(GoldFinchError):
    """A folder of training data that lacks one of its files."""


class ModelDamaged(GoldFinchError):
    """A model directory that does not match its own fingerprints."""


class TokenizerError(GoldFinchError):
    """A tokenizer that is missing or cannot be read."""


class EmptyInput(GoldFinchError):
    """Nothing to pre-fill or to ask."""


class NotText(GoldFinchError):
    """A document that is a directory, PDF, HTML or binary data."""


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


class DeviceError(GoldFinchError):
    """A device that is not there, or not enough memory."""
