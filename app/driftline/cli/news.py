"""The stream of the recommendation demo: a news page that shows three of thirty articles.

Who clicks what is made from a seed and known exactly: an article has some appeal of its own, and some to each kind of
reader. Part way the taste changes: each kind of reader takes to other articles, while readers and articles look as they
did. Since the truth is known, so is what any policy earns; `clicks` answers a slate as readers would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import exp
from random import Random
from typing import Any

PIPELINE = """\
# Which three of thirty articles to show? Clicks answer within two minutes, or not at all.
pipeline: {name}
task: recommend
seed: 42
topics: {{events: {name}.requests, labels: {name}.clicks}}
delivery: {delivery}
event:
  id: request_id
  time: at
  features:
    reader: string
    evening: boolean
    age: number
    articles: items
label: {{id: request_id, item: article, value: clicked, time: at, wait: 2m}}
recommend: {{candidates: articles, slate: 3, policy: thompson, alpha: 0.3, epsilon: 0.05}}
model: LinearItems(half_life=3000)
drift:
  error: ADWIN(delta=0.002)
  warmup_labels: 1000
"""

STEP_MS = 1_000
ARTICLES = tuple(f"article-{number:02d}" for number in range(30))
READERS = ("student", "commuter", "parent", "retired")
SLATE = 3


class NewsPage:
    """Readers, articles and the truth about them.

    Args:
        seed: of the truth and of the readers.
        change_at: index of the first request under the changed taste; None never.
    """

    def __init__(self, seed: int = 7, change_at: int | None = None) -> None:
        random = Random(seed)
        self.seed = seed
        self.change_at = change_at
        self._appeal = {article: random.gauss(-2.8, 0.3) for article in ARTICLES}
        self._taste = [
            {reader: {article: random.gauss(0.0, 1.5) for article in ARTICLES} for reader in READERS}
            for _ in ("before", "after")
        ]  # fmt: skip
        self._evening = {article: random.gauss(0.0, 0.3) for article in ARTICLES}
        self._age = {article: random.gauss(0.0, 0.3) for article in ARTICLES}

    def request(self, index: int, start_ms: int = 0) -> dict[str, Any]:
        """The request with this number."""
        random = Random(f"{self.seed}:request:{index}")
        return {
            "request_id": f"r{index:06d}",
            "at": start_ms + index * STEP_MS,
            "reader": random.choice(READERS),
            "evening": random.random() < 0.4,
            "age": round(random.gauss(0.0, 1.0), 2),
            "articles": list(ARTICLES),
        }

    def requests(self, count: int, start_ms: int = 0) -> Iterator[dict[str, Any]]:
        return (self.request(index, start_ms) for index in range(count))

    def probability(self, request: dict[str, Any], article: str) -> float:
        """Of a click, if the article is shown."""
        changed = self.change_at is not None and int(request["request_id"][1:]) >= self.change_at
        odds = self._appeal[article] + self._taste[changed][request["reader"]][article]
        odds += self._evening[article] * request["evening"] + self._age[article] * request["age"]
        return 1 / (1 + exp(-odds))

    def best(self, request: dict[str, Any]) -> float:
        """Clicks to be expected of the best slate."""
        return sum(sorted((self.probability(request, article) for article in ARTICLES), reverse=True)[:SLATE])

    def expected(self, request: dict[str, Any], slate: Iterable[str]) -> float:
        """Clicks to be expected of a slate."""
        return sum(self.probability(request, article) for article in slate)

    def clicks(self, request: dict[str, Any], slate: Iterable[str]) -> list[dict[str, Any]]:
        """What readers click, each some seconds later. Whether an article is clicked does not depend on the others."""
        made = []
        for article in slate:
            random = Random(f"{self.seed}:click:{request['request_id']}:{article}")
            if random.random() < self.probability(request, article):
                at = request["at"] + random.randrange(1_000, 40_000)
                made.append({"request_id": request["request_id"], "article": article, "clicked": True, "at": at})
        return made
