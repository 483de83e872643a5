"""One shard's state, and what it makes."""
