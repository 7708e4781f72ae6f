"""Errors of the kernels package.

NotImplementedError
└── KernelError                 what these kernels do not do here
    ├── BackendUnavailable      a backend was asked for by name and cannot run here
    ├── NativeUnavailable       the C kernels cannot be compiled or loaded here
    └── KernelInputError        shapes, dtypes or devices that a kernel does not take
"""

from __future__ import annotations


class KernelError(NotImplementedError):
    """Root of everything that gfkernels raises on purpose.

    Its standard base tells those who must not import this package, and torch with it, what has happened: something was
    asked for that is not done here.
    """


class BackendUnavailable(KernelError):
    """A backend was asked for by name and cannot run here."""

    def __init__(self, op: str, backend: str, reason: str, supported: tuple[str, ...]) -> None:
        self.op, self.backend, self.reason, self.supported = op, backend, reason, supported
        super().__init__(f"backend '{backend}' cannot run {op}: {reason} (available: {', '.join(supported)})")


class NativeUnavailable(KernelError):
    """The C kernels cannot be compiled or loaded here; the text says why."""


class KernelInputError(KernelError):
    """Shapes, dtypes or devices that a kernel does not take."""

    def __init__(self, op: str, found: str, expected: str) -> None:
        self.op, self.found, self.expected = op, found, expected
        super().__init__(f"{op}: found {found}, expected {expected}")
