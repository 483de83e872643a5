"""`python -m app.cli` is the command `driftline`."""

from app.cli import main

main(prog_name="driftline")
