"""What tests need from the machine: a missing tool is said, and is a failure where nothing may be missing."""

from __future__ import annotations

import os
import shutil

import pytest


def require(*commands: str) -> None:
    """Skip the calling test, naming what is missing; with CI=true a missing command fails it instead."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [command for command in commands if shutil.which(command, path=path) is None]
    if not missing:
        return
    lacking(f"{', '.join(missing)} is missing on this machine (make test as root on Debian installs it)")


def lacking(what: str) -> None:
    """What is missing is said, and skips the test; with CI=true it fails it."""
    message = f"not run: {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
