"""Replay and backtest: what would this model have done, and what did it do?

`history` (files) and `replay` (topics) give records in their order · `candidate` folds them and keeps `tally`s · `run`
puts candidates on processes · `compare` says which is better, and how sure · `report` and `page` present it.
"""
