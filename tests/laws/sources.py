"""The source files of a tree as the laws see them: modules, and what each imports, also inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One imported thing.

    Attributes:
        target: the module that is imported, as far as it can be told: `a.b` for `from a import b` where a.b is a module.
        name: what is taken from it; empty for the module itself.
        bound: the name that it has in the importing file.
        line: where.
    """

    target: str
    name: str
    bound: str
    line: int


@dataclass(frozen=True)
class Source:
    """One file: package "goldfinch", module "goldfinch.models.gold", place "goldfinch/models/gold.py"."""

    package: str
    module: str
    place: str
    path: Path
    modules: frozenset[str]

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def folder(self) -> str:
        """The part below its package that has a floor: "models", or "errors" for errors.py at the top."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else ""

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports())

    def _imports(self) -> Iterator[Import]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".")[0]
                    yield Import(alias.name, "", bound, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                for alias in node.names:
                    bound, inner = alias.asname or alias.name, f"{base}.{alias.name}"
                    if inner in self.modules:
                        yield Import(inner, "", bound, node.lineno)
                    else:
                        yield Import(base, alias.name, bound, node.lineno)
            elif isinstance(node, ast.Call) and is_import_module(node) and isinstance(node.args[0], ast.Constant):
                yield Import(str(node.args[0].value), "", "", node.lineno)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        if self.path.name != "__init__.py":
            parts.pop()
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])


def is_import_module(call: ast.Call) -> bool:
    """Whether this is a call of importlib.import_module or __import__."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return bool(call.args) and called in ("import_module", "__import__")


def read_sources(homes: Mapping[str, Path]) -> list[Source]:
    """Every Python file of the packages, each named by the folder that it lies in."""
    found = []
    for package, folder in homes.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            found.append((package, ".".join(parts), f"{package}/{path.relative_to(folder)}", path))
    modules = frozenset(module for _, module, _, _ in found)
    return [Source(*each, modules) for each in found]
