"""Every bound of the product, in one place, each with its reason.

The PHP client carries its own copy of the numbers it needs (`php/src/Limits.php`); a test holds them equal.
Units are in the names: `_BYTES`, `_S` (seconds), `_MS`, `_COUNT`-like plurals are plain numbers.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- Lines from a PHP process (wire.md 1) -----------------------------------------------------------------
LINE_BYTES = 8 * MIB
"""Longest line: twice the largest real profile seen (0.94 MB unpruned) eight times over."""
OVERSIZE_KEPT_BYTES = 4 * KIB
"""Of a line that was too long, what is kept for a person to see where it came from."""
LINES_UNFINISHED_BYTES = 32 * MIB
"""All started lines together, so that four stuck senders cannot eat the host's memory."""
LINE_START_S = 5.0
"""A connection must bring a complete line, and finish a started one, within this."""
CONNECTIONS_HELD = 4096
"""Connections kept open for requests in flight; more than any FPM pool's children on one host."""
CONNECTIONS_PER_UID = 512
"""Of those, one user's share, so that one pool cannot shut out the others."""
LISTEN_BACKLOG = 1024
"""Twisted's 50 refuses clients in a stall of 300 ms; 1024 does not (measured)."""
READ_BYTES = 64 * KIB
"""Taken from a connection at once: nearly every record is smaller."""
ACCEPTED_TOGETHER = 64
EVENTS_TOGETHER = 256
"""Connections accepted, and connections looked after, before the rest of the agent gets its turn: some 10 ms."""
LOCAL_DATAGRAM_BYTES = 256 * KIB
"""Longest datagram an agent takes: Linux lets a sender put 208 KiB into one unless it is told otherwise."""
DATAGRAMS_TOGETHER = 64
"""Datagrams taken before the rest of the agent gets its turn."""
DATAGRAM_QUEUE_BYTES = 4 * MIB
"""What is asked of the kernel for datagrams that wait; it gives net.core.rmem_max if that is less."""
LOOK_S = 0.002
LOOKS_COUNTED = 16
"""Connections that wake the agent more often, over so many looks, are looked after only so often: their acks wait 2 ms
at most, and each costs a quarter less CPU (benchmarks/p3_connections.py)."""
OWN_DESCRIPTORS = 16
"""Of the last descriptors, those no connection keeps while a silent one can be closed for it: an agent that cannot
open its journal's next file acknowledges nothing, whoever it holds."""
ACCEPT_AGAIN_S = 0.1
"""With no descriptor left and nothing to close, clients wait in the queue this long before the next try."""

# --- What a record may look like (promises: "Refused on arrival") -----------------------------------------
DEPTH = 64
"""Nesting, the outermost value counting as 1."""
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
"""SQLite and most consumers of JSON hold signed 64 bits; more would be an error far from its cause."""
NUMBER_MAX = 2**53
"""Counts, bytes and nanoseconds of one record: what JavaScript and a double can hold, and a thousand of which add up
without leaving 64 bits."""
MS_MAX = 1e11
"""A duration, three years: no request, but a worker's job may be odd."""
PROBLEMS = 20
"""Field errors reported for one record; a record broken in more places is described well enough."""

# --- Names (wire.md 7) ------------------------------------------------------------------------------------
SQL_INPUT_BYTES = 16 * KIB
"""A statement is cut here before it is read: longer ones are bulk inserts that differ only in rows."""
STATEMENTS_REMEMBERED = 4096
STATEMENT_REMEMBERED_CHARACTERS = 1024
"""Texts whose statement and fingerprint are remembered, and up to which length: some 10 MB at worst, and reading a
record of 20 statements costs a fifth."""
NAMES_REMEMBERED = 4096
"""Client addresses whose network, and drivers whose dialect is remembered: a third of the cost of a short record."""
FINGERPRINT_BYTES = 900
"""Bytes of a statement its fingerprint covers: what Postgres keeps of a query (1023) less a correlation comment."""
ENDPOINT_BYTES = 120
"""Longest endpoint name; longer paths are generated ones."""

# --- Journal (design 4) -----------------------------------------------------------------------------------
SEGMENT_BYTES = 4 * MIB
"""A file of the journal: small enough that unlinking it frees space soon, large enough to be few."""
FSYNC_INTERVAL_S = 0.5
"""Most that a power cut can cost under `fsync = interval`."""
UNSYNCED_BYTES = 8 * MIB
"""Written and not durable yet, held in memory in case an fsync fails: beyond it an append waits for one."""
READABLE_BYTES = 4 * KIB
"""A bad block of a disk costs what is in it: the unit in which a file is read that cannot be read whole."""
RECENT_IDS = 200_000
"""Of the last 15 minutes, known at start: 1.6 MB, a fifth of a second, and some minutes at any rate a host can do."""
JOURNAL_MB = 1024
JOURNAL_LEAST_MB = 16
"""What one journal may take, by default and at least: four segments."""
JOURNAL_DISK_SHARE = 0.8
"""And of the file system it is on, where that is small: the rest is for the spool and for others."""
JOURNAL_AGE_S = 6 * 86_400
"""What is older goes: a collector keeps seven days and would refuse it soon."""
JOURNAL_LOOK_S = 60.0
"""Between two looks at the age of segments; the size is looked at with each new one."""
MEMORY_RECORDS = 100
MEMORY_BYTES = 32 * MIB
"""What is held in memory ahead of the sender (DAEMON-05); the rest is on disk."""
RECENT_BYTES = 8 * MIB
"""Of what is on disk, the last of it is remembered as well: what may be written between two fsyncs (UNSYNCED_BYTES)."""
APPENDS_WAITING_BYTES = 32 * MIB
"""Lines handed to the journal thread but not yet written: beyond it nothing is read from clients."""

# --- Forwarding (design 4, DAEMON-08, -10) ----------------------------------------------------------------
FLUSH_S = 5.0
BATCH_ITEMS = 500
BATCH_BYTES = 1 * MIB
"""A batch is at most this much before compression, or one single larger item."""
CONNECT_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 5.0
ANSWER_BYTES = 1 * MIB
"""Longest answer of a collector that an agent reads: 500 rejections with their fields fit easily."""
RETRY_AFTER_MAX_S = 300.0
"""A collector's Retry-After is honoured up to this, so that a wrong header cannot stop an agent for a day."""
HOLD_S = 60.0
"""A refused key is tried again after this long, or as soon as its file changes."""
IDLE_LINK_S = 60.0
"""An unused connection to the collector is closed before the collector does it (IDLE_TIMEOUT_S)."""
REFUSED_IN_A_ROW = 10
"""Single items refused one after another (400, 413) without one taken between them: then it is not the items' fault
but something on the way, and one a HOLD_S is tried before a whole journal ends in quarantine."""
QUARANTINE_FILES = 1000
QUARANTINE_BYTES = 64 * MIB
"""Refused items kept for a person to look at; oldest out first."""

# --- Breaker (DAEMON-09) ----------------------------------------------------------------------------------
BREAKER_FAILURES = 5
BREAKER_RETRY_S = 60.0

# --- Spool of the PHP client (wire.md 4) ------------------------------------------------------------------
SPOOL_FILES = 50_000
SPOOL_BYTES = 256 * MIB
SPOOL_AGE_S = 7 * 86_400
SPOOL_SHORT_BYTES = 1 * MIB
"""One worker's file of short records."""
SPOOL_IMPORT_PER_TICK = 500
"""Files imported in one tick, so that a night's spool does not delay live traffic."""
SPOOL_LINES_AT_ONCE = 50
"""Of one file, read and journalled in one turn: 1 MiB of short records at once would delay acks by 100 ms."""
SPOOL_SETTLED_S = 5.0
"""A file of the first version that is no whole JSON yet may still be written to for this long."""
SPOOL_BROKEN_FILES = 1000
"""Kept for a person to look at; oldest out first."""
SPOOL_TICK_S = 2.0
"""Between two looks into the spool: a file renamed in one and imported in the next comes well before DIED_AFTER_S."""
UNREAD_ACKS = 100_000
"""Ids remembered at most for that; 11 MB. Oldest out first: the collector still knows a record twice sent."""
UNREAD_ACK_S = 15 * 60.0
"""How long the ids of ends whose ack was not read are remembered, against the same record in the spool."""
DIED_AFTER_S = 10.0
"""A connection that closed without an end waits this long for a spool file before it is called died."""
HEARTBEAT_S = 1.0

# --- Lifecycle of the agent (design 4) --------------------------------------------------------------------
RESTART_REQUESTS = 1000
RESTART_LIFETIME_S = 3600
"""After so many requests the agent restarts, but not before it is this old (DAEMON-02)."""
RESTART_MEMORY_MB = 256
"""Above this it restarts (DAEMON-01): three times what it needs with a full memory buffer."""
RESTART_MEMORY_LEAST_MB = 80
"""Least that may be asked for: imports alone are 54 MB, and a limit below that would restart it for ever."""
RESTART_AGAIN_S = 60.0
"""It never restarts by itself more often than this, whatever its memory says."""
RESTART_REFUSED_S = 600.0
"""A restart that could not be, because of a wrong agent.ini for example, is tried again after this."""
RESTART_LOOK_S = 1.0
"""Between two looks whether a restart is due."""
CHECK_S = 60.0
"""What a check of configuration and code in a process of its own may take; on an idle machine it is a second."""
HANDOVER_S = 5.0
"""What the batch in flight may take before the process is replaced, and how long a slow disk is waited for."""
RESTART_ANSWER_S = 0.1
"""Between the answer to the one who asked for a restart, and the restart."""
RESTART_BACKLOG = 65_535
"""Clients that may wait while no process accepts; the kernel takes its own net.core.somaxconn if that is less."""
CONTROL_LINE_BYTES = 16 * KIB
CONTROL_S = 5.0
"""Of the control socket: the longest question, and how long a connection may take to ask it."""
CONTROL_CONNECTIONS = 16
GC_REQUESTS = 100
GC_IDLE_S = 60.0
"""Garbage is collected at least this often, requests or not."""
GC_COLLECTOR_S = 5.0
"""How often a collector collects it: what cycles it leaves in so many seconds are some megabytes at the most."""
GC_OLDER = 10
"""Every so many collections look at one generation more."""
DRAIN_S = 2.0
"""What clients get to finish what they are saying, and the agent to answer it, before it ends or re-executes itself."""
DRAIN_LOOK_S = 0.02
"""Between two looks whether it has."""
STATISTICS_S = 60.0
LEDGER_S = 60.0
"""Between two looks whether the ledger balances."""
FLUSH_AT_STOP_S = 15.0
"""What forwarding gets at SIGTERM: with draining and a last fsync well within systemd's 30 s."""
AGENT_STOP_S = 28
"""After this an agent that was told to stop ends whatever it waits for; a supervisor kills it at 30 s."""
STALLED_S = 1.0
"""A journal that keeps lines waiting longer than this no longer shows its heartbeat to the clients."""
REPEATED_S = 60.0
"""One failure over and over is logged once in this time, with its count."""
DESCRIPTORS = 4 * CONNECTIONS_HELD
"""Open files the agent asks the system for: every connection it may hold, room for the ones it turns away, and two
files of /proc for each process that is looked at."""

# --- HTTP of the collector (design 5) ---------------------------------------------------------------------
BODY_BYTES = 2 * MIB
"""Wire size of one request; an agent's batch is at most 1 MiB before compression, or one 8 MiB line compressed."""
BODY_INFLATED_BYTES = 16 * MIB
ZSTD_WINDOW_BYTES = 8 * MIB
HEADER_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 75.0
"""A kept-alive connection with nothing asked; longer than an agent's flush interval many times over."""
HTTP_CONNECTIONS = 512
HTTP_CONNECTIONS_PER_ADDRESS = 64
REQUESTS_PER_S = 400.0
REQUESTS_BURST = 2000
"""What one key and one address may ask: 200 agents behind one address draining a backlog at two batches a second
each stay below it; a loop gone wild does not."""
RATES_KEPT = 10_000
"""Addresses and keys whose pace is remembered, 2 MB; who has not come for the longest is forgotten first."""
DATAGRAMS_WAITING = 64
"""Datagrams that are being checked or stored; those that come meanwhile are dropped and counted."""
DATAGRAM_BYTES = 65_535
"""Longest that UDP carries."""
DATAGRAM_AGE_S = 60.0
"""A datagram's time may differ this much from the collector's: what somebody recorded is worthless after it."""
CERTIFICATE_DAYS = 825
"""Longest that browsers accept of a certificate by a private authority."""
COMMITS_WAITING = 64
"""Batches waiting for the store's writer; beyond it senders are told 429 and come back."""
BODIES_WAITING_BYTES = 64 * MIB
"""The same, by the size of the bodies: what 64 batches of the largest size would take is too much memory."""
BODY_RECORDS = 5000
"""Records in one body: ten times an agent's batch. Each may need an answer of its own."""
ANSWER_PROBLEMS = 2000
"""Wrong fields told in one answer; beyond it one a record. Keeps the answer within ANSWER_BYTES."""
PROBLEM_CHARACTERS = 200
"""Of a field's path and of what is wrong with it, what an answer repeats."""
LARGE_BLOCK_BYTES = 128 * KIB
"""Memory blocks from here on go back to the system when freed: a body of 16 MiB must not stay for ever."""
PARSERS = 2
"""Threads that read bodies: more would only take turns at the interpreter's lock."""
RETRY_SOON_S = 1
"""What a sender is told to wait when the collector is only busy."""
RETRY_TROUBLE_S = 10
"""The same when the disk is full or the store in trouble: nothing changes within a second."""
AGENTS_KEPT = 1000
"""Agents that `/ready` remembers."""
STOP_S = 20.0
"""How long a stopping collector waits for the commits in hand; within TimeoutStopSec=30."""
CLOCK_AHEAD_S = 3600
"""A record further in the future than this is refused (`clock`)."""

# --- People (design 5) ------------------------------------------------------------------------------------
SESSION_S = 12 * 3600
LOGIN_LINK_S = 24 * 3600
"""A one-time link that nobody opened in a day is worth nothing; `bitville user link` makes another."""
SCRYPT_N = 2**15
SCRYPT_R = 8
SCRYPT_P = 3
"""Cost of a password: 32 MiB and a quarter of a second (OWASP's second choice, for half the memory of its first)."""
PASSWORD_CHARACTERS = 10
PASSWORD_CHARACTERS_MOST = 200
"""Shorter is guessed, longer is no password."""
LOGINS_PER_S = 1 / 10
LOGINS_BURST = 10
"""Tries to log in by one name, and from one address: nobody mistypes more often, nobody guesses at this pace."""
KEY_CACHE_S = 1.0
"""How long a key's answer is remembered: revocation acts within this, without a restart."""
KEYS_CACHED = 1024

# --- Store (design 6) -------------------------------------------------------------------------------------
DAYS = 7
"""Days kept when collector.ini does not say; with today eight files."""
DAYS_MOST = 366
"""Most that may be asked for: every question opens every day's file."""
CLEANUP_S = 3600.0
"""Between two looks for days whose time is over."""
HOURS_KEPT_DAYS = 90
SPIKES_KEPT = 2000
"""Spikes of one project: twenty a day for those 90 days; some 10 MB. The oldest go first."""
HOUR_VALUES = 500
"""Values of one dimension and day that keep hours of their own when the day is gone; the rest is `~other`."""
CLOCK_STEP_S = 2 * 3600.0
"""A clock this far ahead of the last look, one cleaning up ago, was changed, or nobody looked."""
CLOCK_DOUBTED_S = 86_400.0
"""How long such a clock drops no day: a person notices a wrong date within a day, and a day more costs only disk."""
BACKUP_PAGES = 1024
"""Pages of a file copied at once: 16 MiB, after which whoever waits for progress hears of it."""
RESERVE_BYTES = 16 * MIB
"""Kept in a file of its own on the collector's disk, to be given up when the disk is full: room for keys, log-ins and
the sums of days that are dropped, which is what makes room for records again."""
RESERVE_SHARE = 16
"""On a small disk: one part of so many, instead."""
DAYS_UNCAPPED = 2
"""The newest days are kept whatever they take: a cap must not drop what a person is looking at."""
GIGABYTES_LEAST = 0.1
"""Smallest cap for all that is stored: below it an hour of one busy host does not fit."""
MAIN_CHECK_S = 2.0
"""How long a start looks for damage in `main.db`, half a gigabyte; its keys and people are read whatever that takes."""
SALVAGE_BATCH = 100
"""Records of a damaged file stored at once: live batches wait for no more than these."""
SALVAGE_ROWS = 100_000
"""Rows tried one by one in a table whose last row cannot be told: half a second."""
SEARCH_LIMIT = 100
SEARCH_DEFAULT = 50
TOP_LIMIT = 200
STATS_S = 86_400.0
"""What `/api/stats` looks at when nobody says: a day has every hour's traffic."""
CORRELATED = 500
"""Observations of a database that are shown with one request."""
LOCK_TREES = 20
"""Lock trees of a request's time that its page looks at for who held it up, the newest: one of ten seconds each."""
MINUTES_WINDOW_S = 6 * 3600
"""Longest range answered from minute rolls; longer ones are widened to whole hours."""
URL_MATCHES = 1000
"""What a day's URL index finds, up to which it is looked at one by one: 3 µs each. Where there is more, one in a few
hundred rows matches, and walking the rows in order finds a page sooner."""
URL_NEAR = 10_000
"""Rows of a day that can still get onto a page, up to which the letters of each are looked at: 60 ns each, and 25 to
count it, where asking the URL index takes milliseconds."""
URL_SAMPLE = 100
"""The newest URLs of a day, from which it is guessed which letters are rare, and whether many rows match."""
URL_OFTEN = 20
"""With one in so many of them matching, rows are walked in order without asking the index: it would list thousands."""
URL_CHARACTERS = 2048
"""Of a URL, what is stored for search; the record itself keeps it whole."""
READERS = 2
"""Threads that answer questions beside the one writer."""
READ_S = 10.0
"""A question that takes longer than this is interrupted: no reader may pin the write-ahead log for minutes."""

# --- Spikes in the collector (spikes.md, design 7) --------------------------------------------------------
DETECTORS = 200
"""Hosts of projects watched for spikes: an hour's seconds of each are in memory. Those heard of least lately go."""
DETECT_FRAMES = 20_000
"""Frames without their cells that wait to be looked at; beyond it their host is looked at again from the store."""
DETECT_TOGETHER = 200
"""Frames looked at in one turn of the thread, some 20 ms."""
DETECT_AGAIN_S = 2 * 3600.0 + 600
"""Frames read to go on after a restart: an hour to compare with, and the longest that a spike lasts."""
DETECT_LOOK_S = 1.0
"""Between two looks whether a report is due."""
SILENT_LOOK_S = 10.0
"""Between two looks for open spikes whose hosts say nothing more."""
SPIKE_JOIN_S = 60.0
"""Hosts of a project that begin to rise within this are one spike: clocks differ, and queues take a while to build."""
SPIKE_AGAIN_S = 30.0
"""Between two reports of a spike that lasts: three frames more to tell of."""
SPIKE_AGAIN_OF_WORK = 5.0
"""And so many times what the last one took: no more than a fifth of a thread goes into one spike."""
LATE_WAIT_S = 5.0
"""A late frame is rarely alone: its report is made again this long after the first."""
SPIKE_LOST_S = 3 * 3600.0
"""A spike that nobody has ended after this is over: it is normal after an hour, and its host's detector is gone."""
SPIKES_KNOWN_S = 86_400.0
SPIKES_KNOWN = 500
"""Spikes that are over and that late frames still change the report of: a day's, and so many."""
SPIKE_RETRY_S = 30.0
"""A report that could not be made or kept is tried again after this."""
ALERT_YOUNG_S = 600.0
"""Nobody is woken for a spike that began (nor told the end of one that ended) longer ago: a backlog brings those of
last night, and what a collector that died had not told yet is told after its next start only while it is news."""
ALERTS_PER_HOUR = 10
"""Alerts of one project in an hour, when collector.ini does not say: more wake nobody any better."""
ALERT_WAITS_S = (0.0, 5.0, 30.0, 120.0)
"""Before each try to send an alert by one way: a gateway that restarts is back within two minutes."""
ALERT_CONNECT_S = 5.0
ALERT_S = 15.0
"""What one try by HTTP or SMTP may take."""
ALERT_COMMAND_S = 30.0
"""What a command may take before it and what it started are killed."""
ALERTS_WAITING = 50
"""Alerts on their way, all ways together; beyond it they are dropped and counted."""
ALERTS_QUIET = 1000
"""Spikes remembered whose beginning was not told, so that their end is not told either."""
ALERT_SUBJECT = 200
"""Characters of a mail's subject."""
ALERT_PATIENCE_S = 40.0
"""A spike whose first windows do not say yet what it is is told this long after its trigger, explained or not."""
EXPLAIN_WINDOW_S = 2 * 3600
"""Longest window explained on request: with its baseline some 1,300 frames a host, a second of work each."""
EXPLAIN_HOSTS = 8
"""Hosts of a project that are compared in one report, those that rose first: with the database's enough to see that
all web servers are alike."""
EXPLAINS_WAITING = 8
"""Reports that wait for their turn before people and programs are asked to come back."""
SPIKES_LEFT_OUT = 200
"""Other spikes that are left out of a baseline."""
SILENT_S = 30.0
"""A host that sent frames and sends none for this long is said to be silent: three windows, and their way here."""
SKEW_SHOWN_S = 2.0
"""Clocks that are wrong by more than this are told (wire.md 7): less is the way of a batch."""
FLYING_S = 900.0
"""How far back a request may have begun that is looked for in flight at the worst second."""
FLYING = 20
"""Of requests in flight at the worst second, the oldest are shown."""
FLYING_LOOKED = 20
"""Requests that a window names one by one and that are looked up."""
LOCKS_NEAR_S = 30.0
LOCKS_LOOKED = 8
"""How far from the worst second a lock tree may be, and how many are looked into until one has somebody waiting."""
LOCKS_SHOWN = 50
SEEN_BEFORE = 5
"""Earlier spikes of the same cause that a report names."""
SPIKES_LISTED_S = 86_400.0
"""What `/api/spikes` lists when nobody says from when."""

# --- Graylog (GELF-01 to -06) ------------------------------------------------------------------------------
GRAYLOG_PORT = 12201
"""Where Graylog's inputs for GELF listen unless told otherwise."""
GRAYLOG_LOOK_S = 1.0
"""Between two looks whether there is something to send: a log a second old is young."""
GRAYLOG_REST = 1.0
GRAYLOG_REST_LEAST_S = 0.005
"""After each batch so many times what it took to read and encode: a backlog never takes more than half of the
collector's time, and people's questions find a reader free."""
GRAYLOG_BATCH = 200
GRAYLOG_READ_BYTES = 2 * MIB
"""Records read at once: so many, or so many bytes and the one that goes beyond. With the messages made from them and
what the kernel has not taken yet, a backlog of any size takes no more memory than three times that."""
GRAYLOG_VALUE_BYTES = 32_000
"""Of one value: Lucene, below Graylog, refuses a whole message for one of 32,766."""
GRAYLOG_URL_CHARACTERS = 500
GRAYLOG_CONNECT_S = 5.0
GRAYLOG_STUCK_S = 10.0
"""A receiver whose kernel has taken nothing for this long is as good as gone; so is one without an answer by HTTP."""
GRAYLOG_HOLD_S = 10.0
"""GELF over TCP has no acknowledgement. What the other machine's kernel has is taken for delivered when the connection
has outlived it by this; until then it is sent again, with the same ids, after a cut or a restart."""
GRAYLOG_PROOF_S = 2.0
"""Of that, what is enough for the one message that is tried while the breaker is half open: what is no receiver of GELF
hangs up at once."""
GRAYLOG_RETRY_S = 2.0
"""After a failure, while the breaker is closed: a restart of an input takes a few seconds."""
GRAYLOG_POLL_S = (0.002, 0.05)
"""Between two looks whether the other kernel has all: the first after a round trip on a local network, then twice as
long each time up to the last."""
GELF_CHUNK_BYTES = 1420
"""Of a UDP datagram with its head of 12: it stays in one packet of an Ethernet, over IPv6 and through a tunnel too."""
GELF_CHUNKS = 128
"""More parts of one message Graylog does not put together."""

GRAYLOG_UDP_BYTES = 64 * KIB
GRAYLOG_UDP_REST_S = 0.02
"""UDP has nobody who says that it is too fast: after so many bytes it rests, so that the 208 KiB that a receiving
socket has unless it is told otherwise hold what comes: 3 MB a second."""
GELF_SINK_BYTES = 2 * MIB
"""Longest message that `bitville gelf-sink` takes, as Graylog's inputs do unless told otherwise."""
GELF_SINK_HELD = 100
GELF_PARTS_S = 5.0
"""Messages whose parts have not all come by UDP: so many, and for so long, as in Graylog."""

# --- Command line -----------------------------------------------------------------------------------------
ASK_S = 60.0
"""How long a command waits for the collector: a report of a busy hour takes some seconds, and others may be first."""
ASK_SESSION_S = 120
"""A session that a command on the collector's machine opens for itself ends with it, or after this."""
SPIKES_TOLD_S = 7 * 86_400.0
"""What `bitville spikes` lists when nobody says from when."""
SHORT_ID = 8
"""Characters of an id that people are shown, where they tell it apart."""
DOCTOR_S = 12.0
"""What all checks of `bitville doctor` have, which run at once: PHP and a Postgres get 10 s to answer."""
DOCTOR_FREE_BYTES = 1024 * MIB
"""A disk with less is told, or with less than `DOCTOR_FREE_SHARE` of a small one: what a journal may take."""
DOCTOR_FREE_SHARE = 0.1
"""The same of a disk of less than 10 GiB."""
DOCTOR_FREE_LEAST_BYTES = 64 * MIB
"""With less than this it is a question of minutes until nothing can be written."""
DOCTOR_JOURNAL_SHARE = 0.5
"""A journal fuller than this is told: as much time again, and the oldest records go."""
DOCTOR_CERTIFICATE_S = 14 * 86_400.0
"""A certificate that ends sooner is told: renewals that work come before that."""
DOCTOR_BEAT_S = 3.0
"""A heartbeat older than this makes PHP write to its spool: HEARTBEAT_STALE_S of its client."""
DOCTOR_SILENT_S = 60.0
"""A collector that no agent spoke to in so long after its start: frames come every ten seconds."""
TAIL_S = 2.0
"""Between two looks of `bitville tail`: agents send every five seconds, and a look costs the collector some ms."""
TAIL_BACK_S = 900.0
"""How long before now requests of `bitville tail` may have begun: longer than most of them can take."""
TAIL_PAGES = 10
"""Pages of one of its looks: 500 requests a second that are kept whole; more nobody reads."""
TAIL_FIRST = 10
"""Requests it begins with, so that one sees that it works."""
STATEMENT_TOLD = 600
"""Characters of a statement in a terminal: some eight lines. `--json` has all of it."""
FRAMES_TOLD = 4
"""Frames of a statement's stack in a terminal, the innermost first: the place, and how one came there."""

# --- Pages and API (design 7) -----------------------------------------------------------------------------
PARAMETER_CHARACTERS = 2048
"""Longest value of a URL's parameter: as much as of a URL is kept for search."""
ENDPOINTS_SHOWN = 5
"""Of the heaviest endpoints, above the requests: enough to see whether one stands out."""
CHART_POINTS = 360
"""Most steps of a chart: one every three pixels, and some 10 KB of a page."""
HOSTS_SHOWN = 8
"""Hosts with a line of their own under the chart: those with the highest load."""
SPIKES_SHOWN = 5
"""Of the newest spikes, on the first page; the list has them all."""
SPIKES_LISTED = 200
"""On one page of the list."""
AROUND_SPIKE_S = 300.0
"""Shown before and after a spike: enough of the baseline to see what rose."""
EXPLAIN_S = 600.0
"""What the form for a window to be explained begins with: the last ten minutes."""
FLAME_DEPTH = 120
FLAME_FRAMES = 700
"""Levels and frames of a flame graph that are drawn: 200 KB of a page; a click on a frame shows what is below it."""
FLAME_SHARE = 0.0015
"""Narrower frames are less than two pixels wide, and left out."""
FLAME_NAMED = 0.02
"""Frames from this width on have room for the beginning of their name."""
TIMELINE_SHOWN = 40
TIMELINE_STRIP = 1000
"""Of a request's statements and calls: the longest that get a line, and those that are drawn at all."""
FUNCTIONS_SHOWN = 100
ROWS_OPEN = 20
"""Of a request's functions and statements, those on the page at once; the rest is folded below them."""
FUNCTION_SHOWN_MS = 1.0
"""On a page; below a millisecond a profile is mostly noise (PHP-03). The JSON has them all."""
FUNCTION_HOT = 0.05
"""Share of a request's time from which a function is a hot spot (PHP-03)."""
MOSTLY_KNOWN = 0.9
"""Share of a time that has to be known for its means to be told without a word; a few minutes of an hour may miss."""
STATEMENT_REPEATED = 10
"""Executions of one statement in one request from which a page calls it repeated: a list shown without a join."""
CODE_CHARACTERS = 320
CODE_BEGINNING = 240
"""A statement or name longer than the first is shown by its beginning until a reader opens it: four lines."""
FIELDS_OPEN = 8
"""A group of captured values as short as this stands open; a longer one is folded away."""
FIELDS_SHOWN = 200
FIELD_CHARACTERS = 1000
"""Of captured headers, variables and context on a page; the JSON has them all."""

READ_STEPS = 4000
"""Instructions of SQLite's machine between two looks at the clock: a fraction of a millisecond."""
PAGE_BYTES = 16 * KIB
"""A page of a database file: saves a fifth against SQLite's 4 KiB with records of this size (measured)."""
PAYLOAD_LEVEL = 3
"""zstd level of stored records: 25 to 35 µs for 8 KB."""
DICTIONARY_BYTES = 110 * KIB
"""Size of a day's zstd dictionary: twice the size saves 1 % more (measured)."""
DICTIONARY_RECORDS = 1000
"""Records a dictionary is learned from, and after which a day learns its own: half a second in a thread."""
DICTIONARY_SAMPLE_BYTES = 16 * KIB
"""Of one such record: a single large one must not be all that is learned."""
END_BEFORE_RECV_S = 6 * 86_400
"""A record counts in the minute of its end, but at most this long before it was received (wire.md 6)."""
BUSY_S = 5.0
"""How long a connection waits for another process (the command line) that is writing."""
WRITER_CACHE_BYTES = 16 * MIB
"""Pages one open day keeps in memory for its writer: the upper levels of a day's indexes."""
WAL_KEPT_BYTES = 64 * MIB
"""What a write-ahead log is cut back to after a checkpoint; a long question may let it grow meanwhile."""
DAYS_OPEN = 4
"""Days whose files the writer keeps open: today, its neighbours, and one that a backlog is about."""
GROUP_RECORDS = 2000
"""Records committed together when several senders wait: one fsync for all, and none waits for long."""
NAMES_CACHED = 50_000
"""Names of one open day whose numbers the writer remembers; about 10 MB."""
NAMES_LENT = 5_000
"""The same of one reader's connection to a day; with two readers and eight days up to 16 MB."""
NAME_CHARACTERS = 2048
"""Of a name (endpoint, statement, function …), what is kept; longer than what a fingerprint covers."""
DISK_FULL_BYTES = 1 * MIB
"""With less than this free, an error of the store counts as a full disk, whatever SQLite calls it."""
BLOCK_VALUES = 20_000
"""Values that one host's minute or hour keeps of a dimension, the rest is `~other`: each commit writes all of it anew,
800 KB and 15 ms then. Frames at their caps bring 7,200 in an hour at most (single requests)."""
TOTAL_VALUES = 5000
"""Values up to which a day is added up: of single requests there are more, and no two hours have the same."""
TOTALS_TOGETHER = 4
"""Dimensions of hosts whose last hour is added to its day by one commit, 5 to 20 ms each: when an hour begins, all of
them are due, and there are hundreds of commits until the next."""
HISTOGRAM_BUCKET = 400
"""Highest bucket of a histogram (wire.md 6): 1.1^400 µs is a thousand years."""
HISTOGRAM_COUNT = 2**32 - 1
"""Most that one bucket counts, as rolls store it."""

# --- Frames (wire.md 6) -----------------------------------------------------------------------------------
VALUES_HELD = 5000
"""Values of one dimension held in an open frame before they fold into `~other`."""
FRAME_DIMENSIONS = 64
"""Dimensions a frame may have: room for later versions, none for nonsense."""
DIMENSION_CAPS = {
    "endpoint": 200,
    "function": 200,
    "statement": 200,
    "client": 50,
    "process": 50,
    "agent": 20,
    "release": 20,
    "external": 20,
    "wait": 20,
    "blocker": 20,
    "request": 20,
}
"""Every dimension, and how many of its values one frame keeps; the rest is `~other`."""
WINDOW_S = 10
"""What one frame adds up: short enough that a spike of half a minute has a shape."""
SEAL_AFTER_S = 1.0
"""A window waits this long after its end for what is on its way into the journal."""
WINDOWS_HELD = 200
"""Windows added up at once: a spool of last night brings thousands, which are sealed in parts then."""
EPOCHS_HELD = 30
"""Sealings that wait for a disk which takes none: five minutes of looks; then the oldest without requests goes."""
LIVED_WINDOWS = 60
"""Windows that one request is followed through, ten minutes; what it did before is told as of the oldest of them."""
LIVED_FORGOTTEN_S = 15 * 60
"""A request whose record has not come this long after its last look, or after it was called died, is forgotten."""
REQUEST_SHARE = 0.01
"""A single request is named in a frame from this share of its window on."""
FRAME_LINKS = 400
LINKS_HELD = 5000
"""Links in an open window; beyond it the lighter half is forgotten, since they add up to nothing."""
LINKS_OF_REQUEST = 50
"""Functions and statements of one request that are linked to its endpoint: the longest."""
FRAME_BYTES = 1 * MIB
"""A longer frame keeps fewer values: names may be long, and a batch should hold more than one frame."""
EXEMPLARS = 2
"""Short requests of one endpoint and window that are sent whole, beside the ever slower ones."""
EXEMPLARS_IN_ALL = 100
"""Of all endpoints together in a window: counts tell all, exemplars show a few."""
EXEMPLAR_SLOWER = 1.5
"""How much slower than the slowest exemplar the next has to be: each costs as much as a hundred counted ones."""
EXEMPLARS_PENDING = 1000
"""With more records than this waiting to be sent, no more exemplars are added to them."""
# --- Pools of php-fpm (`fpm_status`) ----------------------------------------------------------------------
FPM_ASK_S = 3.0
"""Between two questions to a pool: three in each window."""
FPM_ANSWER_S = 2.0
"""A pool with a free child answers in a millisecond; after this none is free, or it hangs."""
FPM_DEADLINE_S = 30.0
"""A question that has waited this long in a pool's queue is given up, and asked again."""
FPM_ANSWER_BYTES = 64 * KIB
"""Longest answer: a status page without `full` has half a kilobyte."""

# --- The host (wire.md 6) ---------------------------------------------------------------------------------
HOST_TASKS = 20_000
"""Tasks looked at; beyond it, new ones have no name: what they use is `~short-lived`, and /health counts them."""
HOST_LIST_LOOKS = 30
"""Looks after which /proc is listed though nothing seems to have been made or gone: against our own mistakes."""
HOST_PIDS_TRIED = 200
"""Numbers of processes made since the last look that are tried one by one, 2 µs each, rather than /proc be listed."""
HOST_STILL = 10
"""Looks in a row in which a task has not run, after which it may be looked at less often when time is short."""
HOST_EVERY_MOST = 8
"""Such tasks are looked at once in so many seconds at the least: in the window they belong to, mostly."""
HOST_BUDGET_S = 0.008
"""Of a core, what looks at the whole host may take a second: with those at requests it stays within 1 % of a core."""
HOST_MOST_S = 0.03
HOST_PERIOD_MOST = 5
"""Where thousands of tasks run each second, the whole host is looked at less often, so that it takes no more than that;
at least once in so many seconds. A spike on a usual machine must not get there: each second of it counts."""
HOST_SETTLED_LOOKS = 10
"""Looks until what a change of their pace has saved is known."""
HOST_OWED_LOOKS = 3
"""A process that is gone was waited for by its parent in that second; what is not found there then never will be."""
HOST_HIDDEN_LEAST = 20
HOST_HIDDEN_SHARE = 0.1
"""Tasks the kernel has and this /proc does not show, from which on that is said: some come and go between two reads."""
CGROUP_CHARACTERS = 120
"""Of a cgroup's path, the end."""
HOST_STUCK_PLACES = 50
"""Blocked tasks of one look that are asked where in the kernel they wait."""
BLOCKED_SHOWN = 10
BLOCKED_HELD = 200
"""Places in the kernel where tasks were blocked: those a frame names, and those added up in one window."""
TASKS_LOOK_S = 1.0
"""Between two looks at the processes of requests; also between two looks whether a window is to be sealed."""
LOOK_STUCK_S = 5.0
"""A look that has not ended after this is said in /health: something keeps its thread waiting."""
FOLDS_WAITING = 5000
"""Records in memory between journal and rollup; with more they are read back from the journal in their turn."""
FOLD_TURN_S = 0.02
"""Folding in one turn of the reactor: others wait for their acks."""
FOLD_INLINE_BYTES = 16 * KIB
"""The profile of a longer record is added up in a thread: it takes a millisecond and more, 40 for the longest."""

# --- Detection of spikes (analysis/detect.py) -------------------------------------------------------------
BASELINE_S = 3600
"""What a second is compared with: the last hour. Shorter has too few of a quiet host's bursts, longer the last rush."""
BASELINE_OLDEST_S = 2 * 3600.0
"""Seconds of that hour may be this old: those of spikes are left out of it."""
RECENT_S = 600
RECENT_LEFT_OUT_S = 60
"""A morning that fills up within an hour is no spike: the median of the last ten minutes but one counts too."""
RELEASE_NEW = 0.15
RELEASE_NEW_S = 120.0
RELEASE_WINDOWS = 30
"""A release is new when it had at most this share of what was in flight until so long before the spike, in so many
windows: what has run for longer did so without one."""
POOL_QUEUED = 1 / 3
POOL_BUSY = 2 / 3
"""A pool is full when it had a queue in so many of the spike's windows, or no free worker in so many: php-fpm cannot
tell the queue of a UNIX socket."""
HISTORY_LEAST_S = 300
"""With less history than this nothing triggers: a median of five minutes knows the bursts of one."""
SIGMA_LEAST = 0.25
"""A quarter of a task: a host that does nothing has no deviation at all."""
SIGMA_OF_MEDIAN = 0.1
"""A tenth of the level is never news."""
CUSUM_SLACK = 1.0
CUSUM_TRIGGER = 8.0
CUSUM_STEP = 4.0
CUSUM_MOST = 32.0
"""Three seconds at four deviations, or sixteen at one and a half, open a spike; a single second never does."""
ABOVE_LEAST = 3
ABOVE_OF = 5
"""Of the last five seconds three have to be above the floor: a burst of two is over before a load average moves."""
FLOOR_LEAST = 1.5
FLOOR_OF_CORES = 0.5
"""Fewer tasks than this above the usual are nobody's trouble."""
FLOOR_COUNTED = 3.0
FLOOR_COUNTED_OF_CORES = 1.0
"""The same of sessions and requests in flight, which are counted in whole ones once a second: twice as many."""
CLOSE_SIGMAS = 2.0
CLOSE_OF_PEAK = 0.1
CLOSE_FRAMES = 3
"""It is over when three frames are as usual, half a minute of quiet is not the trough of a wave; or when they are a
tenth of what the spike was, and too little for one: one that leaves a host a little busier would swallow the next."""
GAP_FORGETS_S = 30.0
"""After a gap this long the sum begins anew: what was before says nothing about now."""
SILENT_CLOSES_S = 300.0
"""A host that says nothing for five minutes has no spike that anybody could see."""
NEW_NORMAL_S = 3600.0
"""A level that stays this long is the new normal."""
HELD_BACK_S = 300.0
"""What looks like a beginning is kept out of the history for this long, no longer: it would not have been one."""

# --- Explanation of spikes (analysis/explain.py) ----------------------------------------------------------
RISE_LEAST = 0.2
RISE_LEAST_SHARE = 0.05
"""A floor under the rise: a host whose CPUs were busy before has none to show, and nothing explains a tenth of it."""
LEVEL_LEAST = 1e-4
"""Below this a value was not there before: a tenth of a millisecond a second."""
REST_LEAST = 0.05
"""A value is compared with what all others grew by; where it is nearly all there is, they are taken for so much."""
NOISE_OF_RISE = 0.03
Z2_HALF = 9.0
"""Confidence is a half at three deviations; to each is added this share of the rise, for what never varied before."""
CANDIDATES = 20
"""Values of each dimension that a baseline is asked for, by what they consumed, their time in flight, and requests."""
PARALLEL_WORKERS = 3
"""Processes of a database that one waiting client may keep busy: itself and two, Postgres's own default."""
SHARE_LEAST = 0.05
"""What explains less of the rise than this is not looked at."""
STORY_LEAST = 0.1
STORY_OF_BEST = 0.15
STORIES = 3
"""A person can act on three stories, each a tenth of the rise and no small fraction of the best."""
STORY_LINK = 0.7
"""Values are one story when what they have in common is this much of the smaller."""
LOAD_LEAST = 1.5
LOAD_OF_FLIGHT = 0.25
"""It is load, not waiting, when tasks rose by as many and by this share of what requests in flight rose by."""
PRESSURE_MEMORY = 10.0
"""Percent of the time in which something waited for memory: from here on nothing else is the reason."""
SWAPPED_BYTES = 4 * MIB
"""Swapped in and out a second: a disk's worth of it."""
LOCKS_DOMINANT = 0.5
"""The share of a rise from which waiting for locks is the story."""
STOLEN = 0.1
"""The share of the CPUs from which a hypervisor giving them to somebody else is the story."""
LATE_S = 60.0
"""A report is provisional until this long after the end: the functions of long requests are told at theirs."""
VICTIM_SLOWER = 1.5
VICTIMS = 10
VICTIM_REQUESTS = 3
"""Endpoints slower than this, and as many of them, with requests enough to say so."""
CHANGES = 10
"""New releases, statements, clients and processes that a report names."""
LONE_REQUEST = 0.5
"""The part of a spike through which one request has to be in flight to be the one that runs what nobody finished."""
MECHANISM_DOMINANT = 0.5
"""The share of its rise from which one factor names a mechanism."""
REPEATED = 2.0
"""Executions by each request from which on one that nobody has finished is said to repeat itself."""
STILL_S = 3
"""What was in flight at most in so many of the last seconds is still there: one look may fall between two requests."""
SPLIT_PARTS = 12
"""Processes that a report lists one by one; a screen's worth."""
BASELINE_SHORT_S = 600.0
"""With less than ten minutes to compare with, a report says so."""
TRAFFIC_MORE = 1.3
"""All endpoints together: from this many times as many requests on, traffic is a reason."""
STORY_OVERLAP = 0.15
"""Stories that together explain more than all by this are the same load seen twice."""
BASELINE_DAYS = (1, 7)
BASELINE_OTHER_S = 600.0
"""The same time of yesterday and a week ago, ten minutes before and after: what happens at this hour is no news."""
BASELINE_AFTER_S = 30.0
"""After another spike its queue is still being worked off."""

# --- Slow drifts (analysis/baseline.py, collector/nightly.py) ----------------------------------------------
DRIFT_REQUESTS = 50
DRIFT_DAYS = 5
"""A day with fewer calls says nothing about their cost, and fewer days before it nothing about what is usual."""
DRIFT_WINDOW_DAYS = 28
"""Days that are compared: four of each weekday. A step older than that is what is usual now."""
DRIFT_RECENT_DAYS = 3
"""What was not called often for longer than a weekend is not told of any more."""
DRIFT_FACTOR = 1.3
"""Less than a third more is within what data and traffic do by themselves."""
DRIFT_WALL_DAYS = 2
"""Days that wall time alone has to be longer: one overloaded day makes everything slower."""
DRIFT_NOISE = 0.05
"""Costs of the same code differ by a twentieth from day to day even where some days happened to agree."""
DRIFT_FEW = 4.0
"""The median deviation of few days is too small by chance: that of n days is taken for 1 + 4/n times as much."""
DRIFT_VALUES = 500
"""Of one dimension and day, the heaviest: as many as hours are kept of."""
DRIFTS_KEPT = 100
"""Of one project, the dearest: more are one cause, or a new machine."""
NIGHTLY_AFTER_S = 600.0
NIGHTLY_SPREAD_S = 3600
"""After midnight the day's last frames come in; then each installation begins at a moment of its own in this hour, so
that those that share a machine or a disk do not begin together."""
NIGHTLY_START_S = 600.0
"""A night that was missed is made up for this long after a start: agents first deliver what they kept meanwhile."""
NIGHTLY_LOOK_S = 60.0
"""Between two looks whether it is time."""
NIGHTLY_REST = 4.0
"""After each question so many times what it took: people's questions find a reader free, four times of five."""
NIGHTLY_PROJECTS = 200
"""Projects of one night, those that waited longest first: each is 84 questions, half a minute at a large one."""
NIGHTLY_AGAIN_S = 3600.0
NIGHTLY_TRIES = 3
"""What failed is tried again after an hour, so many times a night in all."""
DRIFT_CONFIDENCE = 0.7
DRIFT_CONFIDENCE_DAY = 0.8
"""How sure it has to be; a single dear day may be chance. Of 1000 values whose days differ by a tenth, and one day in
ten by four times that, three to six are told wrongly (docs/explain.md)."""

# --- Postgres (wire.md 6, PG-01 to -08) -------------------------------------------------------------------
PG_LOOK_S = 1.0
"""Between two looks at a server's sessions: a load average adds up over a minute, a spike of 20 s must have a shape."""
PG_STATISTICS_S = 10.0
"""Between two readings of a server's own sums: as long as a frame."""
PG_COUNTERS_S = 60.0
"""Between two records of its counters: they are for a trend."""
PG_SETTINGS_S = 600.0
"""Between two readings of its settings; a record of them is sent when they differ."""
PG_BUDGET = 0.007
PG_STATISTICS_BUDGET = 0.003
"""Of one core, what looking at a server's sessions and reading its statistics may cost, here and there together: one
hundredth (PG-07). 40 blocked sessions are half of the first, 3,000 statements all of the second."""
PG_PERIOD_MOST_S = 30.0
"""Longest between two looks however dear they are: three to a baseline minute."""
PG_COSTS = 10
PG_COSTS_LEAST = 5
"""Looks whose middle one tells what a look costs, and how many are taken before that is judged: one dear answer changes
nothing."""
PG_RETRY_MOST_S = 10.0
"""Longest between two tries to reach a server, or to be answered by one that is too slow: the first minute after a
restart is worth seeing, and so is a server that is overloaded.
"""
PG_CONNECT_S = 5
"""Seconds to connect; libpq takes whole ones."""
PG_CLOCKS_S = 10.0
"""What a server and the kernel may say differently of when a process began; both are on one machine."""
PG_ANSWER_S = 5.0
"""A server that has not answered after this is as good as gone: its connection is given up. Over the statement's own
limit by what a network may take."""
PG_STATEMENT_MS = 1000
"""What any question of ours may take on the server; what takes longer is asked again later."""
PG_LOCK_MS = 100
"""What any of them may wait for a lock: nobody may ever queue behind us."""
PG_STANDS_FOR_S = 3.0
"""A look stands for the time since the one before, but for no more than this: the rest was not seen and is told."""
PG_SESSIONS = 2000
"""Sessions read in one look, oldest statements first; more than that are counted by nobody."""
PG_BLOCKERS = 200
"""Sessions that hold up others and are looked up beside them."""
PG_TEXT_CHARACTERS = 4096
"""Of a session's statement, what is asked for; a server keeps 1,023 bytes unless it is told otherwise."""
PG_TREE = 100
PG_SESSIONS_SENT = 50
PG_REQUESTS_SENT = 50
PG_STATEMENTS_SENT = 50
PG_LOG_SENT = 50
"""Of one server and window: nodes of its lock tree, sessions of its worst second, requests it worked for, statements
that took the most, and lines of its log of one kind. The rest is counted in the record, or in `/health`."""
PG_CALLED = 20
"""Statements of a reading whose calls a frame tells, the dearest: what a spike is explained by is among them."""
PG_REQUEST_MS = 500.0
"""A statement of a request is told of from this age on: one look in two sees it at least."""
PG_QUIET_S = 60.0
"""A server where nobody waits says so this often."""
PG_STATEMENTS_HELD = 10_000
"""Rows of pg_stat_statements read, those with the most time; its own default keeps 5,000."""
PG_TEXTS_HELD = 5_000
PG_TEXTS_ASKED = 200
"""Statements whose names are remembered, and asked for at once: a server reads a file of its own for that."""
PG_LOG_READ_BYTES = MIB
"""Of a log, read in one turn: a second's worth of a server that logs everything."""
PG_LOG_BEHIND_BYTES = 32 * MIB
"""A log that has grown this much ahead is not caught up with; what is passed over is told."""
PG_LOG_ENTRY_BYTES = 128 * KIB
"""Longest entry of a log that is read: plans are long. Python reads no longer field of a CSV file either."""
PG_LOG_S = 1.0
"""Between two looks at a log."""
PG_LOG_FILES = 16
"""Files that were begun and ended between two looks."""
PG_LOG_PATH_S = 10.0
"""How often a server is asked where it writes."""
PG_PLAN_CHARACTERS = 32 * KIB
"""Of a plan, what is sent."""
PG_CONNECTIONS = 3
"""Connections held open at once, at most (PG-07); two are used."""
