"""The picture of a terminal in the README, from commands that are run: python -m bench.report.terminal

It is an SVG of text in a font that every system has; nothing in it is fetched.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs/samples/lighthouse-handbook.txt"
PICTURE = ROOT / "docs/plots/terminal.svg"
COLUMNS = 84
# Shown; what comes back is that of the same words with this interpreter.
COMMANDS = (
    ["gf", "prefill", "-q", "handbook.txt"],
    ["gf", "ask", "--cache", "handbook.gfc", "What is the code of the key cabinet?", "--cite"],
    ["gf", "ask", "--cache", "handbook.gfc", "What is the name of the cook?"],
    ["gf", "status"],
)
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def said(command: list[str], folder: Path) -> str:
    """What a command prints on a terminal with colours, stdout and stderr as they come."""
    tree = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", ROOT / "cache_format")))
    environment = os.environ | {
        "PYTHONPATH": tree, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "GF_CACHE_DIR": str(folder / ".library"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-m", "gfcli", *command[1:]], cwd=folder, env=environment, check=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout


def picture() -> str:
    """The SVG."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(SAMPLE, folder / "handbook.txt")
        for command in COMMANDS:
            words = " ".join(f'"{word}"' if " " in word else word for word in command)
            console.print(Text(f"$ {words}", style="bold"))
            console.print(Text.from_ansi(said(command, folder).replace(f"{folder}/", "").rstrip()))
    svg = console.export_svg(title="gf", unique_id="gf")
    return _FONT_FACE.sub("", svg).replace("Fira Code, monospace", "monospace")


def main() -> None:
    """Run the commands and draw what they print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PICTURE.write_text(picture())


if __name__ == "__main__":
    main()
