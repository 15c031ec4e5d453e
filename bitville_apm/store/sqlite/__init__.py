"""The default store: a SQLite file a day and one for what belongs to no day.

`files` opens them, `day` and `rolls` change one day's file, `writer` is the one thread that does, `reader` answers
questions from several days at once, `main` keeps keys and people, `store` is the service that joins them.
"""

from bitville_apm.store.sqlite.main import Main
from bitville_apm.store.sqlite.store import SqliteStore

__all__ = ["Main", "SqliteStore"]
