"""Postgres as the agent sees it: sessions once a second, statements and counters every ten, its log as it is written.

| module | what it does |
|---|---|
| `sessions`, `locks`, `tally` | one look at all sessions: who waits for what, who holds up whom, cells of a frame |
| `names` | a session's statement as PHP calls it, and the request it belongs to |
| `statements`, `counters` | differences of the server's own sums |
| `prefix`, `logformats` | a log's bytes to its entries |
| `logmessages`, `plans`, `logwindow` | entries to what happened, without any value of the application |
| `observations` | what is sent beside frames, and how much of it |
| `pace` | how often, so that no server feels it |
| `link`, `looker`, `statistics`, `follower` | a server and its files: each blocks, in a thread of its own |
| `source` | all of it for one `[postgres NAME]` |

What is not under the last two rows is pure: no clock, no I/O.
"""
