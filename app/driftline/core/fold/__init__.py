"""The fold: what each record does to a shard."""
