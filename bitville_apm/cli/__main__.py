"""`python -m bitville_apm.cli` is `bitville`, for where it is not on the path."""

import sys

from bitville_apm.cli import main

sys.exit(main())
