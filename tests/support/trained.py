"""Model files for tests: a pipeline's model, taught made-up pairs."""

from __future__ import annotations

import random
from typing import Any

from msgspec import structs

from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import encode_model
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline
from driftline.core.record import FeatureValue, LabelValue
from driftline.core.state.freeze import dump_model
from driftline.core.state.model_file import FORMAT, KIND, Trained


def taught(pipeline: Pipeline, count: int = 60, seed: int = 1) -> Learner:
    """The pipeline's model, having learned that a label follows the first number."""
    learner, rng = Learner(pipeline), random.Random(seed)
    for number in range(count):
        values: list[FeatureValue] = [
            rng.choice("abc") if feature.type == "string" else rng.gauss(0, 2)
            for feature in pipeline.event.features.values()
        ]
        first = float(values[0] or 0.0)
        earned = f'{{"rewards":{{"a":{float(first > 0)},"b":{float(first < 0)}}}}}'
        labels: dict[str, LabelValue | None] = {"regression": 2.0 * first, "anomaly": None, "recommend": earned}
        label = labels.get(pipeline.task, first > 0)
        learner.learn(values, label, f"teach {number}", 0, Oracle())
    return learner


def model_file(pipeline: Pipeline, count: int = 60, *, seed: int = 1, key: KeyRing = NO_KEYS, **changes: Any) -> bytes:
    """A file with that model; `changes` are of its manifest."""
    manifest = Trained(
        kind=KIND,
        format=FORMAT,
        pipeline=pipeline.resolved(),
        versions=versions(),
        arithmetic=arithmetic_fingerprint(),
        learned=count,
        scored=count,
        first_ms=None,
        last_ms=None,
        metrics={},
        size_bytes=0,
        sha256="",
    )
    return encode_model(structs.replace(manifest, **changes), dump_model(taught(pipeline, count, seed).model), key)
