"""`--config` and `--json`, which every command that asks a daemon or its files has; the configuration it names."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bitville_apm.agent.config import AgentConfig, read_agent
from bitville_apm.collector.config import CollectorConfig, read_collector

ETC = Path("/etc/bitville-apm")


def add_options(parser: argparse.ArgumentParser, file: str) -> None:
    """The options of a command that reads `agent.ini` or `collector.ini`."""
    help_ = f"{file} (default: {ETC / file} if it is there)"
    parser.add_argument("--config", type=Path, metavar="FILE", help=help_)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs; times in seconds")


def agent(given: argparse.Namespace) -> AgentConfig:
    """The agent's configuration as the daemon would read it. Raises `ConfigError`."""
    return read_agent(_path(given, "agent.ini"), os.environ)


def collector(given: argparse.Namespace) -> CollectorConfig:
    """The collector's, likewise."""
    return read_collector(_path(given, "collector.ini"), os.environ)


def _path(given: argparse.Namespace, file: str) -> Path | None:
    path: Path | None = given.config
    return ETC / file if path is None and (ETC / file).exists() else path
