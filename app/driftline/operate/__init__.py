"""For operators: verify, status, control, notify, save and restore."""
