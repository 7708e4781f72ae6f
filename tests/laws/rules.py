"""The laws of the house. Each takes the sources of a tree and returns one line per place that breaks it."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeGuard

from tests.laws.sources import Import, Source, is_import_module

Law = Callable[[list[Source]], Iterator[str]]

# What a package may import of ours, and of others; bench compares with what is installed.
OURS = {
    "gfcli": {"gfcli", "goldfinch", "gfcache"},
    "goldfinch": {"goldfinch", "gfkernels", "gfcache"},
    "gfkernels": {"gfkernels"},
    "gfcache": {"gfcache"},
    "bench": {"bench", "goldfinch", "gfkernels", "gfcache"},
}
OTHERS = {
    "gfcli": {"typer", "click", "rich", "torch"},
    "goldfinch": {
        "charset_normalizer",
        "matplotlib",
        "numpy",
        "pathspec",
        "safetensors",
        "snowballstemmer",
        "tokenizers",
        "torch",
        "zstandard",
    },
    "gfkernels": {"numpy", "torch", "triton"},
    "gfcache": {"filelock", "numpy", "platformdirs", "safetensors", "zstandard"},
}
# Who else may import a package that serves one purpose.
HOMES = {
    **dict.fromkeys(("transformers", "gguf"), ("goldfinch/foreign/", "bench/peers/")),
    "jinja2": ("goldfinch/foreign/", "goldfinch/compare/report/"),
    **dict.fromkeys(("rouge_score", "rapidfuzz"), ("goldfinch/compare/tasks/",)),
    **dict.fromkeys(("pypdf", "mammoth", "markdownify", "bs4"), ("goldfinch/text/converters.py",)),
    "openpyxl": ("goldfinch/text/formats/excel.py",),
    "ray": ("goldfinch/jobs/ray.py",),
    **dict.fromkeys(("starlette", "uvicorn"), ("goldfinch/serve/",)),
    "fsspec": ("gfcache/store/remote.py",),
    "cryptography": ("gfcache/format/crypt.py",),
}
_LAST = ("reference", "__main__")
# Low to high. A file imports from its own folder and from lower floors; the face of a package lies above all.
FLOORS = {
    "goldfinch": (
        ("errors", "version"),
        ("devices", "models", "datasets"),
        ("backends", "text"),
        ("policies",),
        ("weights",),
        ("caching",),
        ("engine",),
        ("measure",),
        ("foreign",),
        ("library", "evaluate"),
        ("jobs", "train", "compare", "serve"),
        ("",),
    ),
    "gfcli": (("",), ("support",), ("commands",), ("registry", "completing"), ("parser",), ("app",), _LAST),
    "gfcache": (("errors", "layout"), ("codecs", "files"), ("format",), ("store",), ("",)),
}
# bench/gpu times single parts of a backend, as measure does; weights/l are loading and light.
BACKEND_USERS = ("goldfinch/backends/", "goldfinch/weights/l", "goldfinch/measure/", "bench/gpu/")

FILE_LINES, LONG_FILE_LINES = 400, 600
LONG_FILES = ("goldfinch/models/", "gfkernels/")
FUNCTION_LINES, PARAMETERS = 60, 10
FOLDER_FILES = 15
LARGE_FOLDERS = {"gfcli/commands": 25, "gfcli/support": 25}


def packages_go_one_way(sources: list[Source]) -> Iterator[str]:
    """gfcli -> goldfinch -> gfkernels, gfcache; nothing of ours below, no stranger that is not listed."""
    for source in sources:
        for package in sorted({one.target.split(".")[0] for one in source.imports} - {source.package, ""}):
            if not _may_import(source, package):
                yield f"{source.place} imports {package}"


def _may_import(source: Source, package: str) -> bool:
    if package in OURS or package == "tests":
        return package in OURS[source.package]
    if source.package not in OTHERS or package in sys.stdlib_module_names:
        return True
    return package in OTHERS[source.package] or _has_a_home(package, source)


def _has_a_home(package: str, source: Source) -> bool:
    return source.place.startswith(HOMES.get(package, ()))


def strangers_stay_at_home(sources: list[Source]) -> Iterator[str]:
    """triton is imported in files named triton*.py, each extra in the files that serve it."""
    for source in sources:
        for package in sorted({one.target.split(".")[0] for one in source.imports}):
            if package == "triton" and not source.path.name.startswith("triton"):
                yield f"{source.place} imports triton"
            if package in HOMES and not _has_a_home(package, source):
                yield f"{source.place} imports {package}"


def floors_hold(sources: list[Source]) -> Iterator[str]:
    """A file imports from its own folder and from lower floors only."""
    for source in sources:
        floors = FLOORS.get(source.package)
        if floors is None:
            continue
        height = {folder: floor for floor, folders in enumerate(floors) for folder in folders}
        if source.folder not in height:
            yield f"{source.place} is on no floor"
            continue
        for target in _ours(source, source.package):
            other = _folder(target)
            if other != source.folder and height.get(other, len(floors)) >= height[source.folder]:
                yield f"{source.place} imports {target}"


def _ours(source: Source, package: str) -> list[str]:
    return sorted({one.target for one in source.imports if one.target.split(".")[0] == package})


def _folder(module: str) -> str:
    return [*module.split("."), ""][1]


def backends_are_chosen_once(sources: list[Source]) -> Iterator[str]:
    """Backends are imported by weights/loading, weights/light and measure only."""
    for source in sources:
        if not source.place.startswith(BACKEND_USERS):
            for target in _ours(source, "goldfinch"):
                if _folder(target) == "backends":
                    yield f"{source.place} imports {target}"


def no_circles(sources: list[Source]) -> Iterator[str]:
    """No module reaches itself by its imports, those inside functions and under TYPE_CHECKING included."""
    edges = {
        source.module: {one.target for one in source.imports if one.target in source.modules} - {source.module}
        for source in sources
    }
    reach = {module: _reach(module, edges) for module in edges}
    seen: set[str] = set()
    for module in sorted(edges):
        circle = {other for other in reach[module] if module in reach[other]}
        if circle and module not in seen:
            seen |= circle
            yield "circle: " + ", ".join(sorted(circle))


def _reach(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += edges[module]
    return found


def imports_can_be_read(sources: list[Source]) -> Iterator[str]:
    """A module that is named at run time, where these laws cannot see it, is named by a face or a registry alone."""
    for source in sources:
        if source.path.name in ("__init__.py", "registry.py") or source.package == "bench":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and is_import_module(node) and not isinstance(node.args[0], ast.Constant):
                yield f"{source.place}:{node.lineno} imports a module by a computed name"


def private_names_stay(sources: list[Source]) -> Iterator[str]:
    """No `_name` of one file of ours is taken by another."""
    for source in sources:
        ours = [one for one in source.imports if one.target.split(".")[0] in OURS]
        for one in ours:
            if _private(one.name) or any(_private(part) for part in one.target.split(".")):
                yield f"{source.place} imports {one.target}.{one.name}".rstrip(".")
        yield from _reached_into(source, ours)


def _reached_into(source: Source, ours: list[Import]) -> list[str]:
    modules = {one.bound: one.target for one in ours if not one.name and one.bound}
    taken = set()
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _private(node.attr)):
            continue
        if node.value.id in modules:
            taken.add(f"{source.place} uses {modules[node.value.id]}.{node.attr}")
    return sorted(taken)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def files_are_short(sources: list[Source]) -> Iterator[str]:
    """400 lines a file, 600 where it holds models or kernels."""
    for source in sources:
        lines = len(source.text.splitlines())
        limit = LONG_FILE_LINES if source.place.startswith(LONG_FILES) else FILE_LINES
        if lines > limit:
            yield f"{source.place} has {lines} lines"


def functions_are_short(sources: list[Source]) -> Iterator[str]:
    """60 lines a function, counted without its docstring."""
    for source in sources:
        for node in _functions(source):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > FUNCTION_LINES:
                yield f"{source.place}: {node.name} has {lines} lines"


def parameters_are_few(sources: list[Source]) -> Iterator[str]:
    """10 parameters a function. Options of a command and pointers of a kernel are their own list: they are not counted."""
    for source in sources:
        for node in _functions(source):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            outside = source.place.startswith("gfcli/commands/") or source.path.name.startswith("triton")
            if count > PARAMETERS and not outside:
                yield f"{source.place}: {node.name} has {count} parameters"


def _functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def folders_are_small(sources: list[Source]) -> Iterator[str]:
    """15 Python files a folder, 25 in gfcli/commands and gfcli/support; their tests may be as many."""
    for folder, count in sorted(Counter(source.place.rpartition("/")[0] for source in sources).items()):
        if count > LARGE_FOLDERS.get(folder.removeprefix("tests/"), FOLDER_FILES):
            yield f"{folder} has {count} files"


# Who speaks to the user, and who draws bars; the child process of a measurement hands its figures to its parent.
VOICE = "gfcli/support/console.py"
BARS = "gfcli/support/progress.py"
HANDS_FIGURES_OVER = "goldfinch/measure/flatness.py"
# What may be asked of sys.stdout and sys.stderr elsewhere: none of it writes.
_STREAM_FACTS = frozenset(("isatty", "flush", "fileno"))
_WRITERS = {
    "typer": {"echo", "secho", "prompt", "confirm", "echo_via_pager"},
    "click": {"echo", "secho", "prompt", "confirm", "echo_via_pager"},
    "traceback": {"print_exc", "print_exception", "print_last", "print_stack", "print_tb"},
}


def one_voice(sources: list[Source]) -> Iterator[str]:
    """All that is printed goes through the console, which lets nothing steer a terminal; libraries print nothing."""
    for source in sources:
        if source.package == "bench" or source.place in (VOICE, HANDS_FIGURES_OVER):
            continue
        if source.place != BARS and any(one.target.split(".")[0] == "rich" for one in source.imports):
            yield f"{source.place} imports rich"
        asked = {id(node.value) for node in ast.walk(source.tree) if _asks_a_stream(node)}
        for node in ast.walk(source.tree):
            if id(node) not in asked and (what := _prints(node)):
                yield f"{source.place}:{node.lineno} uses {what}"  # type: ignore[attr-defined]


def _asks_a_stream(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and node.attr in _STREAM_FACTS and _prints(node.value).startswith("sys.")


def _prints(node: ast.AST) -> str:
    """The function or stream that a node names, if it prints."""
    if isinstance(node, ast.Name) and node.id == "print":
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "input":
        return node.func.id
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
        return ""
    owner, name = node.value.id, node.attr
    streams = owner == "sys" and name in ("stdout", "stderr", "__stdout__", "__stderr__")
    return f"{owner}.{name}" if streams or name in _WRITERS.get(owner, ()) else ""


def children_import_nothing_of_here(sources: list[Source]) -> Iterator[str]:
    """A Python that ours starts does not look for modules in the current folder, which may be anybody's: -P."""
    for source in sources:
        for node in ast.walk(source.tree):
            if source.package == "bench" or not isinstance(node, ast.List | ast.Tuple) or not node.elts:
                continue
            if ast.unparse(node.elts[0]) == "sys.executable" and "'-P'" not in map(ast.unparse, node.elts[1:2]):
                yield f"{source.place}:{node.lineno} starts Python without -P"


# Who holds the lock of what it writes by other means.
HOLDS_ITS_LOCK = ("gfcache/files/", "gfkernels/temporary.py", "gfcli/support/answers_file.py")
# What nobody knows of when its process is killed, unless it is made under the lock of an output.
_NAMELESS = ("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile")
UNDER_A_LOCK = "goldfinch/foreign/importing.py"


def leftovers_are_swept(sources: list[Source]) -> Iterator[str]:
    """Files are written under the lock of their output, by which the next writer knows what a killed one has left.

    Temporary folders have locks of their own: `gfcache.files.temporary`, and one for kernels.
    """
    for source in sources:
        if source.package == "bench" or source.place.startswith(HOLDS_ITS_LOCK):
            continue
        for node in ast.walk(source.tree):
            names = {one.name for one in node.names} if isinstance(node, ast.ImportFrom) else set()
            if "replacing" in names:
                yield f"{source.place}:{node.lineno} writes without a lock"
            if isinstance(node, ast.Attribute) and node.attr in _NAMELESS and source.place != UNDER_A_LOCK:
                yield f"{source.place}:{node.lineno} makes what nobody sweeps"


def names_say_something(sources: list[Source]) -> Iterator[str]:
    """No utils.py."""
    for source in sources:
        if source.path.stem in ("utils", "util", "helpers", "misc"):
            yield f"{source.place} is a drawer of odds and ends"


def no_module_is_empty(sources: list[Source]) -> Iterator[str]:
    """A file holds something; __init__.py may be a docstring alone."""
    for source in sources:
        body = source.tree.body[1:] if ast.get_docstring(source.tree) else source.tree.body
        code = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
        if source.path.name not in ("__init__.py", "__main__.py") and not code:
            yield f"{source.place} is empty"


def public_things_have_docstrings(sources: list[Source]) -> Iterator[str]:
    """Modules, and public functions and classes at their top."""
    for source in sources:
        if not ast.get_docstring(source.tree):
            yield f"{source.place} has no docstring"
        for node in source.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{source.place}: {node.name} has no docstring"


def no_fixture_is_only_named(sources: list[Source]) -> Iterator[str]:
    """A test uses what it takes; a fixture that it needs for its effect stands in usefixtures."""
    for source in sources:
        for node in _functions(source):
            if not node.name.startswith("test_") or not source.path.name.startswith("test_"):
                continue
            used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
            for argument in (*node.args.args, *node.args.kwonlyargs):
                if argument.arg not in used | {"self"}:
                    yield f"{source.place}: {node.name} takes {argument.arg} and does not use it"


def sources_are_in_packages(sources: list[Source]) -> Iterator[str]:
    """Every folder of sources has an __init__.py, so that its package is shipped whole."""
    for source in sources:
        if not (source.path.parent / "__init__.py").is_file():
            yield f"{source.place} lies in a folder without __init__.py"


PRODUCT_LAWS: tuple[Law, ...] = (
    packages_go_one_way,
    strangers_stay_at_home,
    floors_hold,
    backends_are_chosen_once,
    no_circles,
    imports_can_be_read,
    private_names_stay,
    files_are_short,
    functions_are_short,
    parameters_are_few,
    folders_are_small,
    one_voice,
    children_import_nothing_of_here,
    leftovers_are_swept,
    names_say_something,
    no_module_is_empty,
    public_things_have_docstrings,
    sources_are_in_packages,
)
# What holds for tests too: they may import anything, also what is private.
TEST_LAWS: tuple[Law, ...] = (
    no_fixture_is_only_named,
    no_circles,
    files_are_short,
    functions_are_short,
    folders_are_small,
    names_say_something,
    sources_are_in_packages,
)
