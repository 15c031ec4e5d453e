"""The pure parts of the client under PHPUnit: each class of `unit/` is a test here, and claims its promises itself."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.php.peer import base_options
from tests.tools import require

UNIT = Path(__file__).parent / "unit"
CLASSES = sorted(path.stem for path in UNIT.glob("*Test.php"))
EXTENSIONS = ("ctype", "dom", "mbstring", "phar", "tokenizer", "xml", "xmlwriter")
"""What PHPUnit needs. The client needs none."""


@pytest.fixture(scope="module", params=["1", "0"], ids=["compiled", "interpreted"])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What those tests of each class said that failed; with patterns that PCRE compiles, and without its compiler."""
    require("php", "phpunit")
    log = tmp_path_factory.mktemp("phpunit") / "junit.xml"
    command = ["php", *base_options(EXTENSIONS), f"-dpcre.jit={request.param}", str(shutil.which("phpunit"))]
    done = subprocess.run(
        [*command, "-c", str(UNIT), "--log-junit", str(log)], capture_output=True, text=True, check=False, timeout=300
    )
    assert log.exists(), done.stdout + done.stderr
    ran: dict[str, list[str]] = {}
    for case in ET.parse(log).iter("testcase"):
        said = ran.setdefault(case.get("class", "").rpartition("\\")[2], [])
        said.extend(problem.text or problem.tag for problem in case)
    assert (done.returncode == 0) == (not any(ran.values())), done.stdout + done.stderr
    return ran


@pytest.mark.parametrize("name", CLASSES)
def test_class(outcome: dict[str, list[str]], name: str) -> None:
    """Every test of this class ran, and none has failed, been skipped or warned."""
    assert name in outcome, "it has no test"
    assert not outcome[name], "\n".join(outcome[name])


def test_each_class_is_looked_for() -> None:
    """There are classes, and PHPUnit is told of no other place than the one in which they were counted."""
    assert CLASSES
    (folder,) = ET.parse(UNIT / "phpunit.xml").iter("directory")
    assert (folder.attrib["suffix"], folder.text) == ("Test.php", ".")
    assert sorted(path.stem for path in UNIT.rglob("*Test.php")) == CLASSES
