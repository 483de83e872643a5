"""What the past knows of an event: numbers of the events before it, and of labels that have come.

`plan` (which parts each key keeps, and how features read them) -> `part` (one part of one key's past) -> `shelf` (the
keys of one `by`, packed, in segments) -> `history` (all of a pipeline, as the fold uses it); `calendar` reads the
event's own time.
"""
