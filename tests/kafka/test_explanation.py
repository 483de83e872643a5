"""What a refusal of Kafka's means: which right is missing, and not that Kafka is away."""

from __future__ import annotations

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from driftline.kafka.client import unreachable
from driftline.kafka.explanation import advice


@pytest.mark.parametrize(
    ("error", "topic", "named"),
    [
        (TopicAuthorizationFailedError("p.journal"), "", "may not use p.journal;"),
        (TopicAuthorizationFailedError({"p.b", "p.a"}), "", "may not use p.a, p.b;"),
        (TopicAuthorizationFailedError(), "", "may not use a topic of the pipeline;"),
        (TopicAuthorizationFailedError("p.journal"), "p.scores", "may not use p.scores;"),
    ],
)
def test_the_topic_that_may_not_be_used_is_named(error: Exception, topic: str, named: str) -> None:
    assert named in advice(error, topic)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TransactionalIdAuthorizationFailed("p-0"), "may not use the pipeline's transactional ids; grant WRITE"),
        (GroupAuthorizationFailedError("driftline-p"), "may not use the pipeline's group; grant READ"),
    ],
)
def test_a_right_that_is_missing_is_no_broker_that_is_away(error: Exception, says: str) -> None:
    """Whoever read "cannot reach Kafka; start one" looked in the wrong place."""
    text = str(unreachable("host:9092", error))
    assert text.startswith("Kafka at host:9092 refused: ")
    assert says in text


def test_a_broker_that_is_away_is_called_so() -> None:
    assert str(unreachable("host:9092", KafkaConnectionError("no"))).startswith("cannot reach Kafka at host:9092")
