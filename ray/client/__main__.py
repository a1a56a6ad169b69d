"""`python -m ray.client`: see `command_line.py`."""

import sys

from ray.client.command_line import main

if __name__ == "__main__":
    sys.exit(main())
