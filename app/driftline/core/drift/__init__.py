"""Drift: signals, their detectors, and what is done about them."""
