"""What each outcome of a transactional request leads to: done, sent again, or an error that ends the producer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NoError,
    NotCoordinatorError,
    ProducerFenced,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer import sender
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

from driftline.core.error import InvariantError
from driftline.kafka import once

PLACE = TopicPartition("scores", 0)
DONE, AGAIN, ERROR = True, False, None

OUTCOMES: dict[type[Exception], tuple[bool | None, bool | None, bool | None]] = {
    # what comes back, and what follows for InitProducerId, AddPartitionsToTxn, EndTxn
    NoError: (DONE, DONE, DONE),
    NodeNotReadyError: (AGAIN, AGAIN, AGAIN),  # no connection: nothing was sent
    RequestTimedOutError: (ERROR, ERROR, ERROR),
    KafkaConnectionError: (ERROR, ERROR, ERROR),
    ConcurrentTransactions: (AGAIN, AGAIN, ERROR),
    UnknownTopicOrPartitionError: (ERROR, AGAIN, ERROR),
    CoordinatorLoadInProgressError: (AGAIN, ERROR, ERROR),
    CoordinatorNotAvailableError: (AGAIN, ERROR, ERROR),
    NotCoordinatorError: (AGAIN, ERROR, ERROR),
    InvalidTxnState: (ERROR, ERROR, ERROR),
}
RAISED = (NodeNotReadyError, RequestTimedOutError, KafkaConnectionError)  # by the client; the rest the broker answers


class Wire:
    """A client that answers every request alike, and counts them."""

    _client_id = "test"

    def __init__(self, outcome: Any) -> None:
        self.sent = 0
        self._outcome = outcome

    async def send(self, node_id: int, request: Any, *, group: Any) -> Any:
        self.sent += 1
        if self._outcome in RAISED:
            raise self._outcome
        code = self._outcome.errno
        return SimpleNamespace(
            error_code=code, producer_id=7, producer_epoch=3, errors=[(PLACE.topic, [(PLACE.partition, code)])]
        )


def handler_of(kind: Any, wire: Wire, identity: str | None = "id") -> Any:
    """A handler of a producer that has come to where it is used."""
    manager = TransactionManager(identity, 1_000)
    if kind is not once.InitPIDHandler:
        manager.set_pid_and_epoch(7, 3)
        manager.begin_transaction()
        manager.maybe_add_partition_to_txn(PLACE)
    if kind is once.EndTxnHandler:
        manager.partition_added(PLACE)
        manager.committing_transaction()
    known = SimpleNamespace(client=wire, _txn_manager=manager, _retry_backoff=0.0, _coordinator_dead=lambda _: None)
    rest = {once.AddPartitionsToTxnHandler: ({PLACE},), once.EndTxnHandler: (1,)}.get(kind, ())
    return kind(known, *rest)


KINDS = (once.InitPIDHandler, once.AddPartitionsToTxnHandler, once.EndTxnHandler)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda kind: kind.__name__)
async def test_what_an_outcome_leads_to(outcome: Any) -> None:
    for kind, wanted in zip(KINDS, OUTCOMES[outcome], strict=True):
        wire = Wire(outcome)
        handler = handler_of(kind, wire)
        if wanted is ERROR:
            with pytest.raises(KafkaError):
                await handler.do(0)
        else:
            assert await handler.do(0) is wanted
        assert wire.sent == 1, "each request is sent once"


@pytest.mark.parametrize("outcome", [RequestTimedOutError, KafkaConnectionError, NotCoordinatorError])
async def test_an_unknown_end_ends_the_producer(outcome: Any) -> None:
    """By an error that aiokafka's sender passes on: its task ends, and nothing of this producer is sent any more."""
    with pytest.raises(ProducerFenced, match="EndTxn was"):
        await handler_of(once.EndTxnHandler, Wire(outcome)).do(0)


async def test_a_producer_without_transactions_asks_again() -> None:
    wire = Wire(RequestTimedOutError)
    init = handler_of(once.InitPIDHandler, wire, None)
    assert await init.do(0) is False
    assert wire.sent == 1


def test_a_sender_that_ends_transactions_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (mended, _, _) in once.HANDLERS.items():
        monkeypatch.setattr(sender, name, mended.__mro__[2])
    once.install()
    assert sender.EndTxnHandler is once.EndTxnHandler
    for name, (mended, _, _) in once.HANDLERS.items():
        monkeypatch.setattr(sender, name, mended.__mro__[2])

    async def _end_quickly(self: Any) -> None:
        await self.client.send(0, sender.EndTxnRequest("id", 7, 3, True))

    monkeypatch.setattr(sender.Sender, "_end_quickly", _end_quickly, raising=False)
    with pytest.raises(InvariantError, match=r"EndTxnRequest is made in .*_end_quickly.*pip install"):
        once.install()
