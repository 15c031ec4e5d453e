"""Bitville APM: which PHP functions, SQL statements, requests or processes caused the load spike."""

__version__ = "0.1.0"
