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
    }

    public function spentNs(): int
    {
        return $this->spentNs;
    }

    /** Whether there is time for a detail, within $share of the budget; if not, it is said to be left out. */
    public function allows(string $detail, float $share = 1.0): bool
    {
        $passedNs = hrtime(true) - $this->startNs;
        if ($this->spentNs <= $share * max(Limits::BUDGET_US * 1e3, Limits::BUDGET_SHARE * $passedNs)) {
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
