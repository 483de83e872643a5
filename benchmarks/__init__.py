"""How fast Driftline is, always against something else run in the same minute on the same machine.

An absolute figure says more about the machine and its load than about the code, so every rate here stands beside
those of its rivals, several rounds long, and what counts is the ratio. Each contender is a process of its own on
one core; the broker, a real Kafka, has the other.
"""
