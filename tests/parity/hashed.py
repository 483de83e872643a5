"""One life on memory, and a digest of everything it served and holds: run under several PYTHONHASHSEEDs, all must
agree.

    python -m tests.parity.hashed
"""

from __future__ import annotations

import asyncio

from app.engine.cluster import MemoryCluster
from tests.parity.rig import Life, outputs_digest, pipeline, produce, state

MODELS = {
    "linear": "(Select('x', 'z') | StandardScaler()) + (Select('word') | OneHotEncoder()) | LogisticRegression()",
    "forest": "(Select('x', 'z') | StandardScaler()) + (Select('word') | OneHotEncoder()) | ARFClassifier(n_models=3)",
    "bayes": "Select('x', 'z') + (Select('word') | TargetAgg(by='word', how=Mean())) | BaggingClassifier(GaussianNB())",
}


async def digests() -> list[str]:
    """One line a model."""
    lines = []
    for name, model in MODELS.items():
        cluster, chosen = MemoryCluster(), pipeline(model=model, snapshot={"every_records": 250})
        cluster.create_for(chosen, 1)
        produce(cluster, chosen, 400)
        async with Life(cluster, chosen) as life:
            await life.until_done()
            lines.append(f"{name} {outputs_digest(cluster, chosen)} {state(life.shard()).hex()}")
    return lines


if __name__ == "__main__":
    print("\n".join(asyncio.run(digests())))
