<?php
namespace BitvilleApm;

/**
 * What the client's own work may cost a request (design.md 3), and what it left out to stay below that.
 *
 * A share of the time that has passed, so that detail comes back in a request that goes on. Counts and times are
 * never left out: whoever asks does so before the work that is a detail.
 */
final class Budget
{
    private $startNs;
    private $spentNs = 0;

    /** The same without waiting for a CPU. */
    private $countedNs = 0;
    private $left = [];

    /** @param int $startNs hrtime of the request's start */
    public function __construct(int $startNs)
    {
        $this->startNs = $startNs;
    }

    /** Notes the client's own work, which is no part of the request's time. */
    public function spend(int $ns): void
    {
        $this->spentNs += $ns;
        // As counted(), without a call for each statement.
        $this->countedNs += $ns < Limits::BUDGET_PIECE_US * 1000 ? $ns : Limits::BUDGET_PIECE_US * 1000;
    }

    /** One piece of work without its waiting for a CPU: on a machine that is too busy detail is wanted most. */
    public static function counted(int $ns): int
    {
        return min($ns, Limits::BUDGET_PIECE_US * 1000);
    }

    public function spentNs(): int
    {
        return $this->spentNs;
    }

    /**
     * Whether there is time for a detail: $leastUs, or $share of the budget; if not, it is said to be left out.
     *
     * @param int $now hrtime
     */
    public function allows(string $detail, int $now, float $share = 1.0, int $leastUs = Limits::BUDGET_US): bool
    {
        $spentNs = $this->countedNs;
        if ($spentNs <= $leastUs * 1000 || $spentNs <= $share * Limits::BUDGET_SHARE * ($now - $this->startNs)) {
            return true;
        }
        $this->leave($detail);
        return false;
    }

    public function leave(string $detail): void
    {
        $this->left[$detail] = true;
    }

    /** @return string[] for `sampled_down` */
    public function left(): array
    {
        return array_keys($this->left);
    }
}
