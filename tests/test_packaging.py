"""What `pip install` puts where, in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", "venv", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "node_modules"
)


@pytest.fixture(scope="module", params=["install", "editable"])
def bin_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a fresh environment with the package installed; its dependencies are those of this one."""
    base = tmp_path_factory.mktemp(request.param)
    checkout = base / "checkout"
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT)
    venv.create(base / "venv", with_pip=False, symlinks=True)
    python = base / "venv" / "bin" / "python"
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["--editable"] if request.param == "editable" else []
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--ignore-installed", *options, checkout),
        ],
        check=True,
        cwd=base,
    )
    where = subprocess.check_output(
        [python, "-c", "import bitville_apm; print(bitville_apm.__file__)"], text=True, cwd=base
    ).strip()
    assert str(base) in where, "the environment under test must be the one that is asked"
    return base / "venv" / "bin"


def test_twistd_lists_both_daemons(bin_folder: Path, tmp_path: Path) -> None:
    """COMM-05: after pip install, plain or editable, `twistd --help` lists bitville-agent and bitville-collector."""
    text = subprocess.check_output([bin_folder / "python", "-m", "twisted", "--help"], text=True, cwd=tmp_path)
    assert "bitville-agent" in text
    assert "bitville-collector" in text


@pytest.mark.parametrize("daemon", ["bitville-agent", "bitville-collector"])
def test_each_daemon_explains_itself(bin_folder: Path, tmp_path: Path, daemon: str) -> None:
    """`twistd … --help` names the one option there is."""
    text = subprocess.check_output([bin_folder / "python", "-m", "twisted", daemon, "--help"], text=True, cwd=tmp_path)
    assert "--config" in text


def test_bitville_is_on_the_path(bin_folder: Path, tmp_path: Path) -> None:
    """`bitville` runs, and every command has a help text."""
    text = subprocess.check_output([bin_folder / "bitville", "--help"], text=True, cwd=tmp_path)
    for command in ("demo", "php", "key", "user"):
        assert command in text
        subprocess.run(
            [bin_folder / "bitville", command, "--help"], check=True, stdout=subprocess.DEVNULL, cwd=tmp_path
        )


def test_what_is_not_python_is_there_too(bin_folder: Path, tmp_path: Path) -> None:
    """PHP client, schemas, pages and the demo's shop are data of the package."""
    php = Path(subprocess.check_output([bin_folder / "bitville", "php", "path"], text=True, cwd=tmp_path).strip())
    package = php.parent
    kept = {p.relative_to(ROOT / "bitville_apm") for p in (ROOT / "bitville_apm").rglob("*") if p.is_file()}
    kept = {p for p in kept if "__pycache__" not in p.parts}
    assert {p for p in kept if not (package / p).is_file()} == set()
    assert Path("php/prepend.php") in kept
    assert Path("store/schema/day.sql") in kept
