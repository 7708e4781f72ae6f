"""What is made of weights: once, and again when the weights have been written to or replaced."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from torch import Tensor, nn

T = TypeVar("T")
_VERSION = operator.attrgetter("_version")


class Prepared(Generic[T]):
    """What was made of some parameters.

    Args:
        parameters: those that it depends on. Optimizers write to them in place, `.data =` gives them other memory.
        make: makes it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], make: Callable[[], T]) -> None:
        self._parameters, self._make = list(parameters), make
        self._kept: tuple[object, T] | None = None

    def get(self) -> T:
        """It, as the parameters are now."""
        # Without a loop in Python: this runs for every token.
        key = tuple(map(Tensor.data_ptr, self._parameters)), tuple(map(_VERSION, self._parameters))
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._make()
        return self._kept[1]
