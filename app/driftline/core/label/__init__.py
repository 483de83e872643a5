"""The life of a label: waiting, early, joined, unmatched."""
