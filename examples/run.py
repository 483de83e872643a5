"""`make example CASE=fraud|spam|demand|recommend DATA=folder`: a case on its real data, beside baselines.

The folder holds the data under the name that it has where it comes from (`CASES`), plain or gzipped. Without it, the
data are those of the case's demo, made from a seed. Each command is printed before it runs, so that you can run it on
your own data; the report is in `build/example-CASE`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
OUT: Final = HERE.parent / "build"

CASES: Final = {
    "fraud": (("fraud*.csv*",), "transactions of the Fraud Detection Handbook, as fraud_handbook_2018-06.csv.gz"),
    "spam": (
        ("sms_spam.jsonl*", "*spam*.jsonl*", "*spam*.csv*"),
        "messages with `label` and `text`, as sms_spam.jsonl.gz",
    ),
    "demand": (
        ("bike_sharing_hour.csv*", "hour.csv*"),
        "hourly rentals of UCI 275, hour.csv or bike_sharing_hour.csv.gz",
    ),
    "recommend": (
        ("requests.jsonl*",),
        "requests.jsonl and clicks.jsonl, as `driftline demo --case recommend --write` makes",
    ),
}
"""By case, which files it looks for, the first that is there, and what they are."""


MADE: Final = {
    "fraud": ("payments.jsonl", ("--label", "is_fraud", "--baseline", "majority", "--alarms-per-day", "100")),
    "spam": ("messages.jsonl", ("--label", "is_spam", "--baseline", "majority")),
    "demand": ("sales.jsonl", ()),
}
"""By case, the file that its demo writes, and how it is read; of `recommend` as a log of one's own."""


def on_made(case: str, folder: Path, out: Path) -> Iterator[list[str]]:
    """What is run on data that are made first, in the folder."""
    yield ["demo", "--case", case, "--write", str(folder)]
    if case == "recommend":
        yield from commands(case, folder / "requests.jsonl", out)
        return
    name, options = MADE[case]
    written = ["-p", str(folder / "pipeline.yaml"), "--input", str(folder / name)]
    yield ["backtest", *written, *options, "-o", str(out / "report")]


def commands(case: str, data: Path, out: Path) -> Iterator[list[str]]:
    """What is run, without `driftline` before it."""
    report, written = ["-o", str(out / "report")], str(out / "pipeline.yaml")
    match case:
        case "fraud":
            pipelines = [str(HERE / "fraud" / name) for name in ("pipeline.yaml", "amount-only.yaml")]
            late = ["--label", "TX_FRAUD", "--label-delay", "7d", "--burn-in", "8d"]
            yield [
                "backtest", "-p", pipelines[0], "-p", pipelines[1], "--input", str(data), *late,
                "--alarms-per-day", "100", "--cost", "fp=1,fn=20", *report,
            ]  # fmt: skip
        case "spam":
            yield ["init", "--input", str(data), "--label", "label", "--name", "spam", "--force", "-o", written]
            yield [
                "backtest",
                "-p",
                written,
                "--input",
                str(data),
                "--label",
                "label",
                "--baseline",
                "majority",
                *report,
            ]
        case "demand":
            yield ["init", "--input", str(data), "--label", "cnt", "--name", "demand", "--force", "-o", written]
            yield ["backtest", "-p", written, "--input", str(data), *report]
        case _:
            clicks = next(iter(sorted(data.parent.glob("clicks.jsonl*"))), data.parent / "clicks.jsonl")
            policies = ["--grid", "recommend.policy=thompson,linucb,popularity,uniform"]
            logged = ["--events", str(data), "--labels", str(clicks)]
            yield ["backtest", "-p", str(HERE / "recommend" / "pipeline.yaml"), *logged, *policies, *report]


def find(case: str, folder: Path) -> Path | None:
    """The data of a case in a folder."""
    return next((path for pattern in CASES[case][0] for path in sorted(folder.glob(pattern))), None)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2) or arguments[0] not in CASES:
        print(f"make example CASE={'|'.join(CASES)} [DATA=folder]", file=sys.stderr)
        return 2
    case = arguments[0]
    out = OUT / f"example-{case}"
    if len(arguments) == 1:
        return run(on_made(case, out / "made", out), out)
    folder = Path(arguments[1])
    data = find(case, folder)
    if data is None:
        patterns, what = CASES[case]
        print(f"{folder} has no {' or '.join(patterns)}: {what}; see examples/{case}/README.md", file=sys.stderr)
        return 2
    return run(commands(case, data, out), out)


def run(every: Iterable[list[str]], out: Path) -> int:
    """Run one command after the other, until one fails; returns its exit code."""
    out.mkdir(parents=True, exist_ok=True)
    for command in every:
        print(f"\n$ {shlex.join(['driftline', *command])}", flush=True)
        done = subprocess.run([sys.executable, "-m", "driftline", *command], check=False)
        if done.returncode:
            return done.returncode
    print(f"\nThe report: {out / 'report' / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
