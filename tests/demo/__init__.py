"""The demo: its shop, its visitors, and a run from start to Ctrl-C."""
