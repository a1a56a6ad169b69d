"""`python -m ray`."""

import sys

from ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
