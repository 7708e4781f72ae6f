"""What the command line makes of the kernels' errors, which it may not import."""

from __future__ import annotations

from gfkernels import BackendUnavailable, KernelInputError
from gfkernels.errors import NativeUnavailable

from gfcli.support.exits import BUG_OR_OTHER, USAGE, exit_code


def test_what_is_not_to_be_had_here_is_a_matter_of_usage() -> None:
    assert exit_code(BackendUnavailable("wkv6", "triton", "no GPU", ("torch",))) == USAGE
    assert exit_code(KernelInputError("wkv6", "K 160", "at most 128")) == USAGE
    assert exit_code(NativeUnavailable("no C compiler found")) == USAGE
    assert exit_code(NotImplementedError("a method that nobody wrote")) == BUG_OR_OTHER
