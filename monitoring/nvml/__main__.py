"""`python -m monitoring.nvml [--once]`."""

import sys

from monitoring.nvml.server import main

if __name__ == "__main__":
    sys.exit(main())
