"""Q3: how long after the first second above the trigger's floor a spike is told, sealing and sending included.

python -m benchmarks.q3_delay --seeds 10
"""

from __future__ import annotations

import argparse

from benchmarks.q1_cause import q3, run


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    cases = list(run(given.seeds, False, 3600))
    print("\n".join(f"{c.name} {c.seed}: {c.delay}" for c in cases if c.delay is None or c.delay > 15))
    print(q3(cases))


if __name__ == "__main__":
    main()
