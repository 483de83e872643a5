"""The model of a shard: how it is asked and taught, and what becomes of its faults."""
