"""Each law fails when it is broken: small made-up trees with one violation each, and the nearest thing allowed."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.laws import rules
from tests.laws.rules import Law
from tests.laws.sources import Source, read_sources

DOC = '"""A file."""\n'
LONG = "def f():\n    '''Long.'''\n" + "    x = 1\n" * 60
PARAMETERS = ", ".join(f"p{n}" for n in range(10))


def made(folder: Path, files: dict[str, str]) -> list[Source]:
    """Sources of a tree of these files; every folder gets its __init__.py."""
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith('"""') else DOC + dedent(text))
        above = path.parent
        while above != folder:
            if not (above / "__init__.py").exists():
                (above / "__init__.py").write_text(DOC)
            above = above.parent
    packages = {place.split("/")[0] for place in files}
    return read_sources({package: folder / package for package in sorted(packages)})


def in_function(text: str) -> str:
    return "def f():\n    '''It imports.'''\n" + indent(dedent(text), "    ")


GOLD = {"goldfinch/models/gold.py": "X = 1\n", "goldfinch/backends/native/gold.py": "X = 1\n"}
BROKEN: list[tuple[Law, dict[str, str], list[str]]] = [
    (
        rules.packages_go_one_way,
        {"gfcache/layout.py": "import torch\n"},
        ["gfcache/layout.py imports torch"],
    ),
    (
        rules.packages_go_one_way,
        {"gfkernels/dispatch.py": in_function("import goldfinch.errors\n")},
        ["gfkernels/dispatch.py imports goldfinch"],
    ),
    (
        rules.packages_go_one_way,
        {"goldfinch/devices.py": "import rich.console\nimport tests.tolerances\nimport bench.places\n"},
        [f"goldfinch/devices.py imports {name}" for name in ("bench", "rich", "tests")],
    ),
    (
        rules.strangers_stay_at_home,
        {"goldfinch/models/gold.py": in_function("import triton.language as tl\n")},
        ["goldfinch/models/gold.py imports triton"],
    ),
    *[
        (
            rules.strangers_stay_at_home,
            {place: in_function(f"import {name}\n")},
            [f"{place} imports {name}"],
        )
        for name, place in (
            ("transformers", "goldfinch/weights/loading.py"),
            ("ray", "goldfinch/jobs/batch.py"),
            ("starlette", "gfcli/app.py"),
            ("fsspec", "gfcache/store/store.py"),
            ("cryptography", "gfcache/format/reader.py"),
        )
    ],
    (
        rules.floors_hold,
        {
            "goldfinch/models/gold.py": "from goldfinch.engine.session import Session\n",
            "goldfinch/engine/session.py": "",
        },
        ["goldfinch/models/gold.py imports goldfinch.engine.session"],
    ),
    (
        rules.floors_hold,
        {"goldfinch/text/prompt.py": in_function("from ..weights import files\n"), "goldfinch/weights/files.py": ""},
        ["goldfinch/text/prompt.py imports goldfinch.weights.files"],
    ),
    (
        rules.floors_hold,
        {
            "goldfinch/library/library.py": """
                from typing import TYPE_CHECKING
                if TYPE_CHECKING:
                    from goldfinch.evaluate.tasks import TASKS
                """,
            "goldfinch/evaluate/tasks.py": "TASKS = ()\n",
        },
        ["goldfinch/library/library.py imports goldfinch.evaluate.tasks"],
    ),
    (
        rules.floors_hold,
        {"goldfinch/weights/loading.py": "from goldfinch import open_cache\n"},
        ["goldfinch/weights/loading.py imports goldfinch"],
    ),
    (
        rules.floors_hold,
        {"goldfinch/policies/h2o.py": "import goldfinch.weights.files\n", "goldfinch/cellar/wine.py": ""},
        [
            "goldfinch/cellar/__init__.py is on no floor",
            "goldfinch/cellar/wine.py is on no floor",
            "goldfinch/policies/h2o.py imports goldfinch.weights.files",
        ],
    ),
    (
        rules.floors_hold,
        {"gfcli/support/outputs.py": "from gfcli.commands import ask\n", "gfcli/commands/ask.py": ""},
        ["gfcli/support/outputs.py imports gfcli.commands.ask"],
    ),
    (
        rules.floors_hold,
        {"gfcache/format/reader.py": "import importlib\nS = importlib.import_module('gfcache.store.store')\n"},
        ["gfcache/format/reader.py imports gfcache.store.store"],
    ),
    (
        rules.backends_are_chosen_once,
        {**GOLD, "goldfinch/engine/session.py": in_function("from goldfinch.backends.native import gold\n")},
        ["goldfinch/engine/session.py imports goldfinch.backends.native.gold"],
    ),
    (
        rules.backends_are_chosen_once,
        {**GOLD, "gfcli/support/sessions.py": "import goldfinch.backends.native.gold\n"},
        ["gfcli/support/sessions.py imports goldfinch.backends.native.gold"],
    ),
    (
        rules.no_circles,
        {"gfkernels/a.py": "from gfkernels import b\n", "gfkernels/b.py": in_function("from .a import X\n")},
        ["circle: gfkernels.a, gfkernels.b"],
    ),
    (
        rules.no_circles,
        {
            "goldfinch/models/a.py": "from goldfinch.models.b import X\n",
            "goldfinch/models/b.py": "import goldfinch.models.c\n",
            "goldfinch/models/c.py": "import typing\nif typing.TYPE_CHECKING:\n    from . import a\n",
            "goldfinch/models/d.py": "from goldfinch.models.a import X\n",
        },
        ["circle: goldfinch.models.a, goldfinch.models.b, goldfinch.models.c"],
    ),
    (
        rules.imports_can_be_read,
        {"goldfinch/weights/loading.py": "from importlib import import_module\nX = import_module('a' + 'b')\n"},
        ["goldfinch/weights/loading.py:3 imports a module by a computed name"],
    ),
    (
        rules.private_names_stay,
        {"gfcache/layout.py": "_X = 1\n", "gfcache/errors.py": "from gfcache.layout import _X\n"},
        ["gfcache/errors.py imports gfcache.layout._X"],
    ),
    (
        rules.private_names_stay,
        {
            "gfcache/layout.py": "_X = 1\n",
            "gfcache/errors.py": "from gfcache import layout as l\nprint(l._X, l.__doc__)\n",
        },
        ["gfcache/errors.py uses gfcache.layout._X"],
    ),
    (rules.files_are_short, {"goldfinch/devices.py": DOC + "X = 1\n" * 400}, ["goldfinch/devices.py has 401 lines"]),
    (
        rules.files_are_short,
        {"gfkernels/a.py": DOC + "X = 1\n" * 599, "goldfinch/models/gold.py": DOC + "X = 1\n" * 600},
        ["goldfinch/models/gold.py has 601 lines"],
    ),
    (
        rules.functions_are_short,
        {"gfcli/app.py": LONG, "gfcli/reference.py": LONG + "    x = 2\n"},
        ["gfcli/reference.py: f has 61 lines"],
    ),
    (
        rules.functions_are_short,
        {"gfcli/app.py": "class A:\n    '''A.'''\n\n" + indent(LONG + "    x = 2\n", "    ")},
        ["gfcli/app.py: f has 61 lines"],
    ),
    (
        rules.parameters_are_few,
        {
            "gfcli/commands/ask.py": f"def f({PARAMETERS}, more): ...\n",
            "goldfinch/devices.py": f"class A:\n    def f(self, {PARAMETERS}): ...\n",
            "goldfinch/models/gold.py": f"def f({PARAMETERS}, *, more): ...\n",
        },
        ["goldfinch/models/gold.py: f has 11 parameters"],
    ),
    (
        rules.folders_are_small,
        {f"goldfinch/text/t{n}.py": "" for n in range(15)} | {f"gfcli/commands/c{n}.py": "" for n in range(24)},
        ["goldfinch/text has 16 files"],
    ),
    (rules.folders_are_small, {f"gfcli/support/t{n}.py": "" for n in range(25)}, ["gfcli/support has 26 files"]),
    (
        rules.folders_are_small,
        {f"tests/gfcli/test_t{n}.py": "" for n in range(15)} | {f"tests/gfcli/commands/t{n}.py": "" for n in range(24)},
        ["tests/gfcli has 16 files"],
    ),
    (
        rules.names_say_something,
        {"goldfinch/text/utils.py": "X = 1\n"},
        ["goldfinch/text/utils.py is a drawer of odds and ends"],
    ),
    (
        rules.one_voice,
        {
            "gfcli/app.py": "import sys\nimport rich.console\n\nprint(1, file=sys.stderr)\nsys.stdout.write(str())\n",
            "gfcli/commands/ask.py": "import typer\n\ntyper.echo(input())\n",
            "goldfinch/devices.py": "import traceback\n\nX = print\ntraceback.print_exc()\n",
        },
        [
            "gfcli/app.py imports rich",
            "gfcli/app.py:5 uses print",
            "gfcli/app.py:5 uses sys.stderr",
            "gfcli/app.py:6 uses sys.stdout",
            "gfcli/commands/ask.py:4 uses input",
            "gfcli/commands/ask.py:4 uses typer.echo",
            "goldfinch/devices.py:4 uses print",
            "goldfinch/devices.py:5 uses traceback.print_exc",
        ],
    ),
    (
        rules.children_import_nothing_of_here,
        {
            "goldfinch/devices.py": "import sys\n\nX = [sys.executable, str(), str()]\nY = [sys.executable, '-P', str()]\n"
        },
        ["goldfinch/devices.py:4 starts Python without -P"],
    ),
    (
        rules.leftovers_are_swept,
        {
            "goldfinch/devices.py": "from gfcache.files.replace import replacing, replacing_output\n\nX = replacing\n",
            "goldfinch/errors.py": "import tempfile\n\nX = tempfile.mkdtemp()\n",
        },
        ["goldfinch/devices.py:2 writes without a lock", "goldfinch/errors.py:4 makes what nobody sweeps"],
    ),
    (
        rules.no_module_is_empty,
        {"goldfinch/serve/app.py": "", "goldfinch/serve/openai.py": "from goldfinch.errors import GoldFinchError\n"},
        ["goldfinch/serve/app.py is empty", "goldfinch/serve/openai.py is empty"],
    ),
    (
        rules.public_things_have_docstrings,
        {"goldfinch/devices.py": "def f(): ...\ndef _g(): ...\nclass A: ...\n"},
        ["goldfinch/devices.py: f has no docstring", "goldfinch/devices.py: A has no docstring"],
    ),
    (
        rules.no_fixture_is_only_named,
        {"tests/test_a.py": "def test_it(tmp_path, capsys):\n    def inner():\n        return capsys\n\n    inner()\n"},
        ["tests/test_a.py: test_it takes tmp_path and does not use it"],
    ),
]


@pytest.mark.parametrize(
    ("law", "files", "found"), BROKEN, ids=[f"{law.__name__}-{next(iter(files))}" for law, files, _ in BROKEN]
)
def test_a_violation_is_found(law: Law, files: dict[str, str], found: list[str], tmp_path: Path) -> None:
    assert sorted(law(made(tmp_path, files))) == sorted(found)


def test_every_law_is_broken_here() -> None:
    tried = {law for law, _, _ in BROKEN} | {rules.sources_are_in_packages}
    assert tried == {*rules.PRODUCT_LAWS, *rules.TEST_LAWS}


def test_a_file_without_a_docstring_is_found(tmp_path: Path) -> None:
    (tmp_path / "lone.py").write_text("X = 1\n")
    sources = read_sources({"goldfinch": tmp_path})
    assert list(rules.public_things_have_docstrings(sources)) == ["goldfinch/lone.py has no docstring"]
    assert list(rules.sources_are_in_packages(sources)) == ["goldfinch/lone.py lies in a folder without __init__.py"]


ALLOWED = {
    "gfcli/__init__.py": DOC,
    "gfcli/app.py": "import typer\nfrom . import registry\n\nX = registry\n",
    "gfcli/registry.py": "import importlib\n\nX = importlib.import_module(str())\n",
    "gfcli/commands/ask.py": "from gfcli.support import outputs\nimport goldfinch\n\nX = goldfinch, outputs\n",
    "gfcli/support/outputs.py": "import sys\nimport gfcache\n\nX = gfcache, sys.stdout.isatty()\n",
    "gfcli/support/progress.py": "import rich\n\nX = rich\n",
    "gfcli/support/console.py": "import sys\n\nprint(1, file=sys.stderr)\n",
    "goldfinch/__init__.py": "from .version import __version__\n\nX = __version__\n",
    "goldfinch/version.py": "__version__ = '1'\n",
    "goldfinch/models/gold.py": "import torch\nfrom . import layers\nfrom goldfinch.errors import A\n\nX = torch, A, layers\n",
    "goldfinch/models/layers.py": "class A:\n    '''A.'''\n\n    def f(self):\n        return self._f()\n",
    "goldfinch/errors.py": "class A(Exception):\n    '''An error.'''\n",
    "goldfinch/backends/native/gold.py": "from goldfinch.backends.prepared import Y\n\nX = Y\n",
    "goldfinch/backends/prepared.py": "import gfkernels\n\nY = gfkernels\n",
    "goldfinch/weights/loading.py": "from goldfinch.backends.native import gold\n\nX = gold\n",
    "goldfinch/measure/speed.py": "from goldfinch.backends.native import gold\n\nX = gold\n",
    "goldfinch/foreign/models.py": "def f():\n    '''F.'''\n    import transformers\n\n    return transformers\n",
    "gfkernels/wkv/triton.py": "import triton\n\nX = triton\n",
}


@pytest.mark.parametrize("law", rules.PRODUCT_LAWS, ids=lambda law: law.__name__)
def test_what_is_allowed_passes(law: Law, tmp_path: Path) -> None:
    assert list(law(made(tmp_path, ALLOWED))) == []
