"""The agent, one on every host: receives from PHP, keeps a journal, forwards to the collector."""
