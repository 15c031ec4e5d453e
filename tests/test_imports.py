"""The architecture as a test: imports go one way (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bitville_apm

PACKAGE = Path(bitville_apm.__file__).parent

MAY_IMPORT = {
    "": set(),
    "agent": set(),
    "store": set(),
    "analysis": set(),
    "collector": {"store", "analysis"},
    "web": {"store", "analysis"},
    "cli": {"agent", "store", "analysis", "collector", "web", "demo"},
    "demo": {"agent", "store", "analysis", "collector", "web", "cli"},
}
"""What each folder may import besides itself and the root modules ("" is the root)."""

PURE = {
    "limits",
    "records",
    "checks",
    "version1",
    "requests",
    "endpoints",
    "sqltext",
    "profile",
    "cells",
    "breaker",
}
IO_MODULES = {"os", "socket", "subprocess", "threading", "asyncio", "sqlite3", "pathlib", "time"}


def _modules() -> Iterator[tuple[str, str, ast.Module]]:
    """(folder, module name, tree) of every file of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        folder = inside.parts[0] if len(inside.parts) > 1 else ""
        yield folder, path.stem, ast.parse(path.read_text(), str(inside))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_go_one_way() -> None:
    """No folder imports one of its own level or above; only taps, the command line and the demo wire folders."""
    wrong = []
    for folder, module, tree in _modules():
        for name in _imported(tree):
            parts = name.split(".")
            if parts[0] != "bitville_apm" or len(parts) < 2 or parts[1] not in MAY_IMPORT:
                continue
            allowed = MAY_IMPORT["cli"] if module == "tap" else MAY_IMPORT[folder]
            if parts[1] != folder and parts[1] not in allowed:
                wrong.append(f"{folder}/{module}.py imports {name}")
    assert not wrong


def test_every_folder_is_known() -> None:
    """A new folder has to take its place in the order above."""
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    assert folders <= set(MAY_IMPORT)


def test_only_taps_cli_and_demo_import_the_reactor() -> None:
    """A reactor is handed in everywhere else, so that tests can hand in a clock."""
    wrong = [
        f"{folder}/{module}.py"
        for folder, module, tree in _modules()
        if "twisted.internet.reactor" in set(_imported(tree)) and module != "tap" and folder not in ("cli", "demo")
    ]
    assert not wrong


def test_pure_modules_do_no_io() -> None:
    """What the flow is computed with can be tested without a file, a socket, a thread or a clock."""
    seen = set()
    wrong = []
    for folder, module, tree in _modules():
        if (folder == "" and module in PURE) or folder == "analysis":
            seen.add(module)
            roots = {name.split(".")[0] for name in _imported(tree)}
            wrong += [f"{folder}/{module}.py imports {name}" for name in roots & (IO_MODULES | {"twisted"})]
    assert not wrong
    assert seen >= PURE


def test_the_plugin_file_imports_nothing_of_ours() -> None:
    """`twistd --help` of every other Twisted project on the machine must not depend on us."""
    plugin = PACKAGE.parent / "twisted" / "plugins" / "bitville_apm_plugin.py"
    assert set(_imported(ast.parse(plugin.read_text()))) == {"twisted.application.service.ServiceMaker"}
    assert not (PACKAGE.parent / "twisted" / "__init__.py").exists()
