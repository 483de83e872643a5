"""Alerts: conditions, episodes, and their wording."""
