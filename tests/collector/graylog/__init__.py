"""Sending to Graylog."""
