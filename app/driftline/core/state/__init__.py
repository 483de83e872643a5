"""A shard as bytes, and back, from this version and from earlier ones."""
