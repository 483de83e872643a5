"""A campaign on a real Kafka: worker processes and the broker are killed, stopped and started under a steady load.

    python -m tests.chaos --faults 100 --events 200000 --seed 1

It ends by checking the promise from the topics alone.
"""
