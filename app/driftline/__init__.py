"""Driftline: keeps machine-learning models alive in production, with nobody watching."""

__version__ = "0.2.0"
