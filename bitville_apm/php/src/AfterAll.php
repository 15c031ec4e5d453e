<?php
namespace BitvilleApm;

/**
 * Runs a piece of work after the last destructor of the application.
 *
 * Shutdown functions come before destructors, and a destructor may print: finishing the response in a shutdown
 * function would lose that. At the end PHP calls destructors in the order of the objects' numbers, and gives an
 * object made meanwhile the next number of all. So an object that is destroyed then makes another one: when that is
 * destroyed, all that were there before it are, too. It goes on until nothing was made in between.
 */
final class AfterAll
{
    /** Not a global variable: those are destroyed first, and in another order. */
    private static $held;

    private $work;
    private $round;

    private function __construct(?callable $work, int $round)
    {
        $this->work = $work;
        $this->round = $round;
    }

    /** To be called while the process ends, the first $work counts; what it throws is PHP's to report. */
    public static function run(callable $work): void
    {
        if (self::$held === null) {
            self::$held = new self($work, 0);
        }
    }

    public function __destruct()
    {
        if ($this->work === null) {
            return;
        }
        $work = $this->work;
        $this->work = null;
        if (self::isLast($this)) {
            $work();
        } else {
            self::$held = new self($work, $this->round + 1);
        }
    }

    private static function isLast(self $object): bool
    {
        if ($object->round === 0 || !function_exists('spl_object_id')) {
            return $object->round > 0;
        }
        $next = new self(null, 0);
        return $object->round >= Limits::LAST_ROUNDS || spl_object_id($next) === spl_object_id($object) + 1;
    }
}
