"""Keeps what was received: one interface, and the implementations that pass its contract."""
