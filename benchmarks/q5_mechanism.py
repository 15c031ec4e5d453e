"""Q5: whether the mechanism of a cause that was found is the right one.

python -m benchmarks.q5_mechanism --seeds 10
"""

from __future__ import annotations

import argparse

from benchmarks.q1_cause import q5, run


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    cases = list(run(given.seeds, False, 3600))
    print("\n".join(f"{c.name} {c.seed}: wrong" for c in cases if not all(c.mechanisms)))
    print(q5(cases))


if __name__ == "__main__":
    main()
