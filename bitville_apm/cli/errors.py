"""How a command says that it did not do what it was asked."""

from __future__ import annotations


class NotDone(Exception):
    """Why, and what to do, in one line: `bitville` writes it on stderr and ends with exit code 1."""
