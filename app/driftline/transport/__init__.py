"""What the engine asks of a broker and of a clock."""
