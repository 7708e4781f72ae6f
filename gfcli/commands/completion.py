"""gf completion: the script that makes a shell complete commands and options."""

from __future__ import annotations

from typing import Annotated

import typer

from gfcli.support.console import console
from gfcli.support.exits import CommandError

SHELLS = ("bash", "zsh", "fish")


# zsh reads the file at the first Tab, and what is only defined then completes nothing before the second.
_DEFINED = "compdef _gf_completion gf"
_DEFINED_OR_CALLED = f"""if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _gf_completion "$@"
else
  {_DEFINED}
fi"""


def completion(shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print a shell completion script.

    Examples:
      gf completion bash > ~/.local/share/bash-completion/completions/gf
      gf completion zsh > ~/.zfunc/_gf
      gf completion fish > ~/.config/fish/completions/gf.fish
    """
    if shell not in SHELLS:
        raise CommandError(f"shell is {shell!r}, allowed: {', '.join(SHELLS)}")
    from typer.completion import get_completion_script

    script = get_completion_script(prog_name="gf", complete_var="_GF_COMPLETE", shell=shell)
    console.text(script.replace(_DEFINED, _DEFINED_OR_CALLED), end="\n")
