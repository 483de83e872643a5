"""Pickles written, and read without letting them choose what runs."""
