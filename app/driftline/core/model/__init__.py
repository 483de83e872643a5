"""The model of a shard: how it predicts and learns, and how its faults are handled."""
