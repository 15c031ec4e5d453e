"""Sends everything that is received on to Graylog, as GELF (GELF-01 to -06)."""
