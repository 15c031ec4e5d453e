"""The ini templates name every setting there is, and no other."""

from __future__ import annotations

import configparser
import re
import subprocess
import typing
from pathlib import Path

import attrs
import pytest

import bitville_apm
from bitville_apm.agent.config import AgentConfig, read_agent
from bitville_apm.collector.config import CollectorConfig, read_collector
from tests.tools import require

ETC = Path(bitville_apm.__file__).parent.parent / "etc"
PHP = Path(bitville_apm.__file__).parent / "php" / "src"
OPTION = re.compile(r"^;(\w+) =(.*)$")


def uncommented(name: str, directory: Path) -> Path:
    """The template with every setting switched on."""
    lines = (OPTION.sub(r"\1 =\2", line) for line in (ETC / name).read_text().splitlines())
    path = directory / name
    path.touch(mode=0o640)
    path.write_text("\n".join(lines) + "\n")
    return path


def sections(whole: type[object]) -> dict[str, set[str]]:
    """Section -> its keys, as the classes of the two config.py have them."""
    found = {}
    for field in attrs.fields(attrs.resolve_types(whole)):
        inner = next((t for t in (field.type, *typing.get_args(field.type)) if attrs.has(t)), None)
        if inner is not None:
            found[field.name] = {f.name for f in attrs.fields(inner) if "read" in f.metadata}
    return found


@pytest.mark.parametrize(("name", "whole"), [("agent.ini", AgentConfig), ("collector.ini", CollectorConfig)])
def test_a_template_has_every_setting(name: str, whole: type[object], tmp_path: Path) -> None:
    """CFG-06, DAEMON-16: nothing that is read is missing from the template, and nothing is unknown."""
    parser = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    parser.read(uncommented(name, tmp_path))
    assert {section: set(parser[section]) for section in parser.sections()} == sections(whole)


def test_the_agent_template_shows_the_defaults(tmp_path: Path) -> None:
    """CFG-06: agent.ini with every setting switched on is the same as none, but for the host's example name."""
    defaults = read_agent(None, {})
    told = read_agent(uncommented("agent.ini", tmp_path), {})
    assert told.agent.host == "web1"
    assert attrs.evolve(told, agent=attrs.evolve(told.agent, host=defaults.agent.host)) == defaults
    as_shipped = tmp_path / "shipped.ini"
    as_shipped.touch(mode=0o640)
    as_shipped.write_text((ETC / "agent.ini").read_text())
    assert read_agent(as_shipped, {}) == defaults


def test_the_collector_template_shows_the_defaults(tmp_path: Path) -> None:
    """CFG-06: collector.ini with every setting switched on is the same as none."""
    assert read_collector(uncommented("collector.ini", tmp_path), {}) == read_collector(None, {})


@pytest.mark.parametrize("name", ["agent.ini", "collector.ini", "profiling.ini"])
def test_every_setting_is_explained(name: str) -> None:
    """CFG-06: each group of settings has sentences above it."""
    lines = (ETC / name).read_text().splitlines()
    for number, line in enumerate(lines):
        if OPTION.match(line):
            above = next(earlier for earlier in reversed(lines[:number]) if not OPTION.match(earlier))
            assert above.startswith("; "), f"{name}:{number + 1} {line} is not explained"


def test_the_client_template_has_every_setting() -> None:
    """PHP-07: profiling.ini names exactly the keys that the client reads."""
    code = (PHP / "Config.php").read_text()
    read = set(re.findall(r"^        '(\w+)' => \['", code, re.MULTILINE))
    read |= set(re.findall(r"self::(?:text|path)\(\s*\$values,\s*'(\w+)'", code))
    told = {found[1] for line in (ETC / "profiling.ini").read_text().splitlines() if (found := OPTION.match(line))}
    assert len(read) > 15
    assert told == read


def test_the_client_template_shows_the_defaults(tmp_path: Path) -> None:
    """PHP-07: to the client, profiling.ini with every setting switched on is the same as `profiling_enabled = on`."""
    require("php")
    template = uncommented("profiling.ini", tmp_path)
    template.write_text(template.read_text().replace("profiling_enabled = off", "profiling_enabled = on"))
    (tmp_path / "short.ini").write_text("profiling_enabled = on\n")
    (tmp_path / "ask.php").write_text(
        "<?php require $argv[1] . '/Limits.php'; require $argv[1] . '/Config.php';"
        "putenv('BITVILLE_APM_INI=' . $argv[2]); echo json_encode(get_object_vars(BitvilleApm\\Config::load()));"
    )

    def settings(ini: Path) -> str:
        command = ["php", "-n", str(tmp_path / "ask.php"), str(PHP), str(ini)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert '"enabled":true' in settings(template)
    assert settings(template) == settings(tmp_path / "short.ini")
    assert '"enabled":false' in settings(ETC / "profiling.ini")
