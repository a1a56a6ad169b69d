"""`python -m ray`."""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C before the gateway listens to signals itself ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from ray.cli import main

    sys.exit(main())
