"""`python -m tests.simulation`: see `campaign`, whose functions other processes must find by a name of their own."""

import sys

from tests.simulation.campaign import main

if __name__ == "__main__":
    sys.exit(main())
