"""Metrics over what was served."""
