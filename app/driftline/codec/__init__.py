"""Bytes to records, and outputs to bytes. Total: any bytes at all decode to a record, if only to a malformed one."""
