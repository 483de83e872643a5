"""Documents that others may have written: compared with the operator's own file first, built afterwards or never."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from driftline.codec.journal import EpochEntry
from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import Manifest
from driftline.core.error import ExpressionError, PipelineError, RecoveryError, SnapshotError, StateMismatchError
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.pipeline import parse_pipeline, read_pipeline
from driftline.core.pipeline.foreign import check_modest, parse_foreign
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen
from driftline.core.state.model_file import UnfitError, check_pipeline
from driftline.engine.epoch import enter_epoch, next_epoch
from driftline.engine.recovery import Recovery
from tests.core.fold.test_load import manifest_of
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.small import MODEL, small


class Trap:
    """A module that notes that it was imported, or called."""

    def __init__(self, folder: Path) -> None:
        self.touched = folder / "touched"
        note = f"Path({str(self.touched)!r}).write_text"
        text = f"from pathlib import Path\nfrom river import linear_model\n{note}('imported')\n"
        text += f"def make(params):\n    {note}('called')\n    return linear_model.LogisticRegression()\n"
        (folder / "driftline_trap.py").write_text(text)

    def sprung(self) -> str:
        return self.touched.read_text() if self.touched.exists() else ""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Trap(tmp_path)
    sys.modules.pop("driftline_trap", None)


def named(**changes: Any) -> dict[str, Any]:
    """A whole document that names the trap as its factory."""
    return {**small().resolved(), "model": "driftline_trap:make", "params": {"touch /tmp/x; #": 1}, **changes}


def epoch(document: dict[str, Any]) -> EpochEntry:
    entry = next_epoch(None, small(), {"p.events": 0}, 0, reset=False)
    assert entry is not None
    return EpochEntry(
        number=entry.number,
        reason=entry.reason,
        state=entry.state,
        positions=entry.positions,
        slice_number=entry.slice_number,
        pipeline=document,
        versions=versions(),
        arithmetic=arithmetic_fingerprint(),
    )


def test_a_factory_out_of_a_model_file_is_neither_imported_nor_called(trap: Trap) -> None:
    with pytest.raises(UnfitError, match="another pipeline file: model"):
        check_pipeline(structs.replace(manifest_of(small()), pipeline=named()), small())
    assert trap.sprung() == ""


def test_a_factory_out_of_a_journaled_epoch_is_neither_imported_nor_called(trap: Trap) -> None:
    with pytest.raises(RecoveryError, match="factory that is not in the pipeline file.*--reset-state"):
        enter_epoch(epoch(named()), None, 0, small())
    with pytest.raises(StateMismatchError, match="model"):
        next_epoch(epoch(named()), small(), {}, 9, reset=False)
    assert trap.sprung() == ""


def test_a_factory_out_of_a_snapshot_is_neither_imported_nor_called(trap: Trap) -> None:
    cluster = MemoryCluster()
    cluster.create_for(small(), 1)
    signed = KeyRing((b"a key of the deployment",))  # else the journal is asked about it first
    recovery = Recovery(MemoryBroker(cluster, small()), small(), 0, signed)
    made = Manifest(1, 0, 0, 1, "chain", 1, 1, {}, 0, 0, "", named(), versions(), arithmetic_fingerprint(), 0)
    with pytest.raises(SnapshotError, match="factory that is not in the pipeline file"):
        asyncio.run(recovery.restore(made, Frozen(b"", [])))
    assert trap.sprung() == ""


def test_the_factory_of_the_operators_own_file_is_called_with_his_own_params(trap: Trap) -> None:
    document = named(params={"rate": 1})
    own = parse_pipeline(document)
    assert "called" in trap.sprung()
    assert isinstance(enter_epoch(epoch(document), None, 0, own), Shard)
    for other in ({"rate": 2}, {"rate": 1.0}, {"rate": True}, {"rate": 1, "more": 1}, {}):
        trap.touched.unlink()
        with pytest.raises(RecoveryError, match="restore the params"):
            enter_epoch(epoch(named(params=other)), None, 0, own)
        trap.touched.touch()
        assert trap.sprung() == ""


def test_a_document_is_read_as_it_would_be_built() -> None:
    for one in (small(), small("regression"), small(drift={"features": {"x": "ADWIN()"}, "error": "none"})):
        assert read_pipeline(one.resolved()) == one
        assert parse_foreign(one.resolved(), small(seed=7)) == one


def test_a_document_without_metrics_is_not_filled_in_by_building_the_model(trap: Trap) -> None:
    document = named()
    del document["metrics"]
    with pytest.raises(PipelineError, match="metrics"):
        read_pipeline(document)
    with pytest.raises(PipelineError):
        read_pipeline({})
    assert trap.sprung() == ""


HUGE = [
    "ARFClassifier(n_models=1000000000)",
    "ARFClassifier(n_models=100000 * 100000)",
    "ARFClassifier(1000000)",
    "ARFClassifier(n_models=$many)",
    "BaggingClassifier(ARFClassifier(n_models=1000), n_models=1000)",
    "BaggingClassifier(BaggingClassifier(BaggingClassifier(NoChangeClassifier(), 100), 100), 100)",
    "HalfSpaceTrees(n_trees=10, height=40)",
    "HalfSpaceTrees(1000, 20)",
    "StandardScaler() | PolynomialExtender(degree=60) | LogisticRegression()",
    "LeveragingBaggingClassifier(LogisticRegression(), w=1e15)",
    "RBFSampler(n_components=100000000) | LogisticRegression()",
    "ROCAUC(n_thresholds=1000000000)",
    "KSWIN(window_size=1000000000)",
    "river.stream.Cache()",
    "LogisticRegression() if 1 else 2",
]


@pytest.mark.parametrize("text", HUGE)
def test_an_expression_of_others_that_asks_for_much_is_refused_before_anything_is_built(text: str) -> None:
    document: dict[str, Any] = {**small().resolved(), "params": {"many": 10**9}}
    model, metric, detector = ({**document, "model": text}, {**document, "metrics": [text]}, small().resolved())
    detector["drift"]["score"] = [{"detector": text}]
    for one in (model, metric, detector):
        tracemalloc.start()
        with pytest.raises(PipelineError):
            parse_foreign(one, small())
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        tracemalloc.stop()


def test_many_modest_expressions_are_not_modest_together() -> None:
    many = [f"ROCAUC(n_thresholds={100_000 + number})" for number in range(100)]
    with pytest.raises(PipelineError, match="in total"):
        parse_foreign({**small().resolved(), "metrics": many}, small())


@pytest.mark.parametrize(
    "text",
    [
        MODEL,
        "ARFClassifier(n_models=100, seed=123456789)",
        "BaggingClassifier(HoeffdingTreeClassifier(grace_period=5000000), n_models=100)",
        "HalfSpaceTrees(n_trees=25, height=15, window_size=24 * 7)",
        "KNNClassifier(engine=LazySearch(window_size=100000))",
        "FeatureHasher(n_features=2097152) | LogisticRegression(optimizer=SGD($rate))",
        " | ".join(["StandardScaler()"] * 300 + ["LogisticRegression()"]),
        "StandardScaler() | VotingClassifier([LogisticRegression(), GaussianNB()])",
    ],
)
def test_what_epochs_are_made_of_is_modest(text: str) -> None:
    check_modest(text, {"rate": 0.05})


def test_the_operators_own_expression_is_built_as_it_is() -> None:
    own = small(model="KNNClassifier(engine=LazySearch(window_size=3000000))")
    with pytest.raises(ExpressionError, match="exceeds"):
        check_modest(own.model, {})
    assert parse_foreign(own.resolved(), own) == own
    with pytest.raises(PipelineError, match="only built if it is in the pipeline file"):
        parse_foreign(own.resolved(), small())
