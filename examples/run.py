"""`make example CASE=fraud|spam|demand|recommend DATA=folder`: a case on its real data, beside baselines.

The folder holds the data under the name that it has where it comes from (`CASES`), plain or gzipped. Each command is
printed before it runs, so that you can run it on your own data; the report is in `build/example-CASE`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
    if len(arguments) != 2 or arguments[0] not in CASES:
        print(f"make example CASE={'|'.join(CASES)} DATA=folder", file=sys.stderr)
        return 2
    case, folder = arguments[0], Path(arguments[1])
    data = find(case, folder)
    if data is None:
        patterns, what = CASES[case]
        print(f"{folder} has no {' or '.join(patterns)}: {what}; see examples/{case}/README.md", file=sys.stderr)
        return 2
    out = OUT / f"example-{case}"
    out.mkdir(parents=True, exist_ok=True)
    for command in commands(case, data, out):
        print(f"\n$ {shlex.join(['driftline', *command])}", flush=True)
        done = subprocess.run([sys.executable, "-m", "driftline", *command], check=False)
        if done.returncode:
            return done.returncode
    print(f"\nThe report: {out / 'report' / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
