"""The pure core: everything that decides, and nothing that touches the world.

No I/O, no clock, no asyncio: time, order and bytes come in as records, and results go out as outputs.
`step.step` is the one way to change state; live processing, recovery, backtests and tests all call it.
"""
