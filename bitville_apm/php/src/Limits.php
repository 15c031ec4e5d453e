<?php
namespace BitvilleApm;

/** Every number of the client, with its reason. A test holds those it shares with the agent equal to limits.py. */
final class Limits
{
    /** One deadline for all of a hand-over after its first write: what a request may cost once it has answered. */
    const DEADLINE_MS = 50;
    /** Of it, what is kept for the last look and the spool. */
    const DEADLINE_REST_MS = 2;
    /** Times the client's shutdown function queues behind others: it runs after two levels of nested ones. */
    const SHUTDOWN_AGAIN = 3;
    /** How often the last object looks whether it is; only another library with the same idea needs more than two. */
    const LAST_ROUNDS = 10;
    /** A hand-over slower than this is worth a line in the log. */
    const HANDOVER_WARN_MS = 40;
    /** The agent touches its heartbeat each second; three missed ones are no coincidence. */
    const HEARTBEAT_STALE_S = 3;
    /** Deadlines missed within a second, unexplained, until the agent is taken for hung. */
    const MISSES = 3;
    /** Waiting for a CPU this long during a hand-over explains a missed deadline: a tenth of it. */
    const RUN_DELAY_EXPLAINS_MS = 5;
    /** A UNIX socket's path; PHP cuts longer ones silently and would connect elsewhere. */
    const SOCKET_PATH_BYTES = 107;

    const SPOOL_FILES = 50000;
    const SPOOL_BYTES = 268435456;
    const SPOOL_AGE_S = 604800;
    /** One worker's file of short records. */
    const SPOOL_SHORT_BYTES = 1048576;
    /** How often the spool is read in full, for age and to correct its counters. */
    const SPOOL_SWEEP_S = 60;
    /** A sweep makes this much room, so that a full spool is not swept for each record. */
    const SPOOL_KEEP_SHARE = 0.9;

    /** A larger record is pruned: this fits the kernel's buffer of a peer that does not read (219 KB). */
    const RECORD_BYTES = 200000;
    /** Functions kept of a pruned profile, statements kept of a pruned list. */
    const PRUNED_FUNCTIONS = 50;
    const PRUNED_STACKS_BYTES = 100000;
    const PRUNED_STATEMENTS = 100;
    /** The same where JSON makes twice as much of it: half of a record for stacks, half for statements. */
    const LEAST_STACKS_BYTES = 50000;
    const LEAST_FUNCTIONS = 10;
    const LEAST_STATEMENT = 300;
    /** Profile of a short record. */
    const SHORT_STACK_BYTES = 8192;
    /** Distinct stacks held of one request; further ones are counted as `~other`. */
    const STACKS = 5000;
    /** Samples after which Excimer's log is folded, so that a job of hours needs no more memory than a page. */
    const SAMPLES = 5000;
    /** Deeper frames of a stack are left out. */
    const STACK_DEPTH = 200;
    /** How far ahead a header that asks for a deep profile may be signed. */
    const TRIGGER_S = 3600;
    /** After this long the profiler's period is stretched, by this factor: a sleeping request is woken less often. */
    const STRETCH_AFTER_S = 1.0;
    const STRETCH = 10;

    /** Statements kept of one request, and their text together; all are counted. */
    const QUERIES = 500;
    const QUERIES_BYTES = 1048576;
    const STATEMENT_BYTES = 16384;
    const STACK_FRAMES = 5;
    /** Frames of libraries looked through for those; and first, where most of them are found. */
    const STACK_LIBRARIES = 30;
    const STACK_NEAR = 15;
    /** What is kept of WordPress' own list of those that led to a statement: twenty of them and more. */
    const CALLERS_BYTES = 2048;
    /** Connections listed in one record; of statements on further ones the driver is told. */
    const CONNECTIONS = 100;
    const SLOW_MS = 100;
    /** A statement of this long always has its stack: to look it up is a thousandth of that. */
    const STACK_MS = 10;
    /** Quicker ones have it after this share of `profiling_threshold_ms`: most requests never are kept whole. */
    const STACK_SHARE = 0.2;
    /** WordPress' statements are taken over when there are so many; its own list, kept for us alone, is emptied then. */
    const SAVED_QUERIES = 50;
    /** Hosts called, listed in one record; all calls are counted. */
    const CALLS = 100;
    /** Values added by bitville_apm_add_context(). */
    const CONTEXT_KEYS = 100;

    /** Longest string, longest header, deepest nesting, most values of one map in a record. */
    const STRING = 1000;
    const HEADER = 500;
    const DEPTH = 5;
    const ENTRIES = 500;
    const KEY = 100;
    const ROUTE = 200;

    /** The client's own work after the response, as a share of the request and at least: statements beyond it are counted only. */
    const BUDGET_SHARE = 0.03;
    const BUDGET_US = 2000;
    /** No piece of it takes longer by itself; one that did was waiting for a CPU, and counts as this much. */
    const BUDGET_PIECE_US = 500;
    /** The same for the stacks of statements, of half the share: most requests are fast, and their stacks are not sent. */
    const BUDGET_STACK_US = 500;

    /** Kept for the record of a request that ran out of memory. */
    const RESERVE_BYTES = 65536;
    /** The same where memory_limit cannot be lifted: all of the end has to live on it. */
    const RESERVE_FIXED_BYTES = 262144;
    /** With less than this below memory_limit the record is slim: it must never be the allocation that fails. */
    const HEADROOM_BYTES = 8388608;
    /** How often one record of a pool tells of OPcache. */
    const OPCACHE_S = 10;
    /** Each kind of message to the error log, once in this time for a pool. */
    const LOG_S = 60;
}
