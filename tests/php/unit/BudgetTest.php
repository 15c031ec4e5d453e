<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Budget;
use BitvilleApm\Limits;
use PHPUnit\Framework\TestCase;

/** What detail may cost a request. */
final class BudgetTest extends TestCase
{
    private const START = 1000;

    /** A budget of which so many pieces of work of 100 µs are spent. */
    private static function spent(int $pieces): Budget
    {
        $budget = new Budget(self::START);
        for ($i = 0; $i < $pieces; $i++) {
            $budget->spend(100000);
        }
        return $budget;
    }

    /** PHP-06: the least is always there; beyond it a share of the time that has passed, so that detail comes back. */
    public function testShareOfTheTimeThatPassed(): void
    {
        self::assertTrue(self::spent(20)->allows('sql', self::START));
        $budget = self::spent(21);
        $enough = (int) ceil(2100000 / Limits::BUDGET_SHARE);
        self::assertFalse($budget->allows('sql', self::START + $enough - 100));
        self::assertTrue($budget->allows('sql', self::START + $enough + 100));
        self::assertFalse($budget->allows('sql_stack', self::START + $enough + 100, 0.5, Limits::BUDGET_STACK_US));
        self::assertTrue($budget->allows('sql_stack', self::START + 2 * $enough + 100, 0.5, Limits::BUDGET_STACK_US));
    }

    /** PHP-06: what was left out is said, each detail once; what was allowed is not. */
    public function testWhatIsLeftOutIsSaid(): void
    {
        $budget = self::spent(30);
        self::assertSame([], $budget->left());
        $budget->allows('sql_stack', self::START);
        $budget->allows('sql', self::START);
        $budget->allows('sql', self::START);
        $budget->allows('other', self::START + 10 ** 12);
        $budget->leave('memory');
        self::assertSame(['sql_stack', 'sql', 'memory'], $budget->left());
    }

    /** PHP-06: where the machine is busy one piece of work may take long; that takes no detail away. Many pieces do. */
    public function testWaitingForACpuIsNoCostOfOurs(): void
    {
        $budget = new Budget(self::START);
        $budget->spend(50000000);
        self::assertTrue($budget->allows('sql', self::START));
        for ($i = 0; $i < 30; $i++) {
            $budget->spend(100000);
        }
        self::assertFalse($budget->allows('sql', self::START));
        self::assertSame(53000000, $budget->spentNs());
        self::assertSame([7, 500000], [Budget::counted(7), Budget::counted(50000000)]);
    }
}
