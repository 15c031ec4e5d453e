"""Receives from agents and keeps: keys and sessions, one ingest handler, health."""
