"""Driftline: keeps machine-learning models alive in production, with no one watching."""

__version__ = "0.3.0.dev0"
