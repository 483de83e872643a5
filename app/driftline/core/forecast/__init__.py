"""Forecasts of many series: what one observation settles, and what is served after it.

`grid` (a time to a slot, and what is done with one that is out of order) -> `series` (one key's past and the forecasts
that wait for their truth, packed) -> `row` (what the model sees of them) -> `interval` (adaptive conformal intervals by
horizon) -> `board` (metrics by horizon) -> `forecasts` (all of it, as the fold uses it). The models themselves are
wrapped in `core.river.ahead`.
"""
