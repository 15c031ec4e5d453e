"""The host: its files read, its tasks named."""
