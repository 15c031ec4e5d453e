<?php
namespace BitvilleApm;

/**
 * Samples the stack with ext-excimer, by wall time.
 *
 * The period is stretched after the first second: each tick of a wall timer wakes even a sleeping request. A sample
 * after that weighs as much more as the period is longer, so that a record has one period. One blocking call is not
 * interrupted, and so not stretched before it returns.
 */
final class ExcimerProfiler implements Profiler
{
    private $periodMs;
    private $script;
    private $budget;
    private $profiler;
    private $timer;
    private $weight = 1;

    /** Stack => samples at the first period. */
    private $stacks = [];

    /** @param string $script what samples outside of any function are counted to */
    public function __construct(float $periodMs, string $script, Budget $budget)
    {
        $this->periodMs = $periodMs;
        $this->script = $script;
        $this->budget = $budget;
    }

    public static function available(): bool
    {
        return class_exists('ExcimerProfiler', false) && class_exists('ExcimerTimer', false);
    }

    public function start(): void
    {
        $this->profiler = new \ExcimerProfiler();
        $this->profiler->setEventType(EXCIMER_REAL);
        $this->profiler->setMaxDepth(Limits::STACK_DEPTH);
        $this->profiler->setPeriod($this->periodMs / 1000);
        $this->profiler->setFlushCallback(function ($log) {
            Client::quietly(function () use ($log) {
                $began = hrtime(true);
                $this->fold($log);
                $this->budget->spend(hrtime(true) - $began);
            });
        }, Limits::SAMPLES);
        $this->timer = new \ExcimerTimer();
        $this->timer->setEventType(EXCIMER_REAL);
        $this->timer->setInterval(Limits::STRETCH_AFTER_S);
        $this->timer->setCallback(function () {
            Client::quietly([$this, 'stretch']);
            Client::quietly(static function () {
                $request = Client::request();
                if ($request !== null) {
                    $request->endpoint()->lookForRoute(true);
                }
            });
        });
        $this->profiler->start();
        $this->timer->start();
    }

    /** For the timer only. */
    public function stretch(): void
    {
        if ($this->profiler === null || $this->weight !== 1) {
            return;
        }
        $this->profiler->stop();
        // flush() hands what there is to the callback, at its old weight.
        $this->profiler->flush();
        $this->weight = Limits::STRETCH;
        $this->profiler->setPeriod($this->periodMs * $this->weight / 1000);
        $this->profiler->start();
    }

    public function stop(): void
    {
        if ($this->profiler === null) {
            return;
        }
        // Ticks that are pending when stop() runs are lost: a jump backwards lets them be counted.
        for ($i = 0; $i < 2; $i++) {
            continue;
        }
        $this->timer->stop();
        $this->profiler->stop();
    }

    public function profile(int $bytes): ?array
    {
        if ($this->profiler !== null) {
            $this->profiler->flush();
            $this->discard();
        }
        if ($this->stacks === []) {
            return null;
        }
        return [
            'kind' => 'excimer',
            'period_us' => (int) round($this->periodMs * 1000),
            'stacks' => Stacks::text($this->stacks, $bytes),
        ];
    }

    public function discard(): void
    {
        if ($this->profiler !== null) {
            // Without its callback, or destruction would call that once more.
            $this->profiler->clearFlushCallback();
            $this->timer->stop();
            $this->profiler->stop();
            $this->profiler = $this->timer = null;
            self::awaitTicks();
        }
    }

    /**
     * Lets the threads of the last ticks end.
     *
     * Excimer 1.0.4 crashes when the process ends before they do: 5 % of processes at a period of 1 ms, none of 600
     * after this. It is over at once but for those; the bound is for a machine that does not run them.
     */
    private static function awaitTicks(): void
    {
        if (!function_exists('stat') || !function_exists('usleep')) {
            return;
        }
        for ($i = 0; $i < 20; $i++) {
            clearstatcache();
            $threads = stat('/proc/self/task');
            // Its links: `.`, `..`, this one, and the helper that glibc keeps.
            if (!is_array($threads) || $threads['nlink'] <= 4) {
                return;
            }
            usleep(500);
        }
    }

    private function fold($log): void
    {
        if (!Client::rest()) {
            return;
        }
        Stacks::fold($this->stacks, $log->formatCollapsed(), $this->weight, $this->script);
    }
}
