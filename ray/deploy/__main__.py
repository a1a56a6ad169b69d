"""`python -m ray.deploy`: see `command_line.py`."""

import sys

from ray.deploy.command_line import main

if __name__ == "__main__":
    sys.exit(main())
