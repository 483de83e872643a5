"""An alert that was not delivered always fits into the topic of those."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.kafka.client import Arrival
from driftline.operate.notify import Notifier
from driftline.operate.webhook import Webhook
from tests.support.pipelines import settings
from tests.support.small import small


class Producer:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send_and_wait(self, topic: str, value: bytes, **rest: Any) -> None:
        self.sent.append({"topic": topic, "value": value, **rest})


@pytest.mark.parametrize("key", [b"key", bytes(5_000)])
async def test_what_is_larger_than_any_alert_is_cut(key: bytes) -> None:
    """With the reason in its headers the topic would refuse it, at each try: no later alert would ever be posted."""
    pipeline = small(limits={"output_bytes_max": 10_000})
    webhook = Webhook.model_validate({"form": "json", "url": "http://127.0.0.1:1/"})
    notifier, producer = Notifier(pipeline, settings("127.0.0.1:1"), "on-call", webhook), Producer()
    for size in (10_000, 10_001):
        await notifier.set_aside(producer, Arrival(0, 7, 0, key, bytes(size), []), "refused", 1)
    whole, cut = producer.sent
    assert len(whole["value"]) == len(cut["value"]) == 10_000
    assert whole["key"] == cut["key"] == (key if len(key) < 100 else None)
    assert "driftline.truncated_bytes" not in dict(whole["headers"])
    assert dict(cut["headers"])["driftline.truncated_bytes"] == b"10001"
