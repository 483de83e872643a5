"""One life on memory, and a digest of everything it served and holds: run under several PYTHONHASHSEEDs, all must
agree.

    python -m tests.parity.hashed
"""

from __future__ import annotations

import asyncio

from tests.parity.rig import Life, outputs_digest, pipeline, produce, state
from tests.support.cluster import MemoryCluster

FEATURES = "(Select('x', 'z') | StandardScaler()) + (Select('word') | OneHotEncoder())"
MODELS = {
    "linear": ("binary", f"{FEATURES} | LogisticRegression()"),
    "forest": ("binary", f"{FEATURES} | ARFClassifier(n_models=3)"),
    "texts as classes": ("multiclass", f"{FEATURES} | HoeffdingAdaptiveTreeClassifier(grace_period=20)"),
    "neighbours": ("multiclass", f"{FEATURES} | KNNClassifier(engine=LazySearch(window_size=30))"),
}


async def digests() -> list[str]:
    """One line a model."""
    lines = []
    for name, (task, model) in MODELS.items():
        chosen = pipeline(task=task, model=model, snapshot={"every_records": 250}, metrics=["Accuracy", "MacroF1"])
        cluster = MemoryCluster()
        cluster.create_for(chosen, 1)
        produce(cluster, chosen, 300)
        async with Life(cluster, chosen) as life:
            await life.until_done()
            lines.append(f"{name}: {outputs_digest(cluster, chosen)} {state(life.shard()).hex()}")
    return lines


if __name__ == "__main__":
    print("\n".join(asyncio.run(digests())))
