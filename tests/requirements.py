"""`docs/requirements.md`: every promise with the tests that name it. `make requirements` writes its last column anew.

A test claims a promise by its id in the docstring: `"\""DAEMON-05: …"\""`. Those of PHPUnit: in the comment before it.
Contracts count too: their tests run in the files that say whose they are.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "requirements.md"
ID = re.compile(r"\b(?:PHP|COMM|DAEMON|PG-COMM|PG|LIST|STOR|GELF|QUERY|CFG|ADV|OPT|VIZ)-\d\d\b")
ROW = re.compile(r"^\| ((?:[A-Z]+-)+\d\d) \| (.*) \| ([^|]*) \|$")
PHPUNIT = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s+public function test", re.DOTALL)
NONE = "—"


def tests_by_id() -> dict[str, list[str]]:
    """For each id the test files with a test whose docstring names it, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    folder = ROOT / "tests"
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*Test.php")]):
        claims = docstrings(path.read_text()) if path.suffix == ".py" else PHPUNIT.findall(path.read_text())
        for id_ in sorted({id_ for claim in claims for id_ in ID.findall(claim)}):
            found[id_].append(path.relative_to(folder).as_posix())
    return found


def docstrings(text: str) -> Iterator[str]:
    """Those of all tests of a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield ast.get_docstring(node) or ""


def rows() -> Iterator[tuple[int, str, str, str]]:
    """(line number, id, promise, tests) of the document's tables."""
    for number, line in enumerate(DOCUMENT.read_text().splitlines()):
        if match := ROW.match(line):
            yield number, match[1], match[2], match[3]


def rewritten() -> str:
    """The document with its last column as the tests are now."""
    tests = tests_by_id()
    lines = DOCUMENT.read_text().splitlines()
    for number, id_, promise, _old in rows():
        lines[number] = f"| {id_} | {promise} | {', '.join(f'`{t}`' for t in tests.get(id_, [])) or NONE} |"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten())
