"""The shell: carries records from Kafka to the core and what it makes back, and remembers enough to do it again.

Nothing here decides what a record means. The parts talk to a broker through the protocols of `port`, so that the
same engine runs on Kafka and, in tests, in memory.
"""

from __future__ import annotations
