"""The published JSON schemas, which tests check output against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def schema(name: str) -> Any:
    """The schema `docs/schemas/NAME.json`."""
    return json.loads((FOLDER / f"{name}.json").read_text())
