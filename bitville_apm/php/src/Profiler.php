<?php
namespace BitvilleApm;

/** What tells which functions a request spent its time in. */
interface Profiler
{
    public function start(): void;

    /** Ends the measurement; called once, before anything else at the end of a request. */
    public function stop(): void;

    /**
     * The `profile` of an end record; null when there is nothing to tell.
     *
     * @param int $bytes most that its stacks may take
     */
    public function profile(int $bytes): ?array;

    /** Ends the measurement and forgets it, without needing memory. */
    public function discard(): void;
}
