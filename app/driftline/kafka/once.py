"""Transactional requests are sent once.

aiokafka sends EndTxn again by itself when the first one was not answered (time-out, reset), at the same producer epoch.
The first may reach the broker late, and then ends whatever transaction is open: the next one, torn. Kafka's own cure is
an epoch for each transaction (KIP-890, EndTxn v5), which aiokafka does not speak. So here whatever is not answered
plainly is an error of the producer; its successor's InitProducerId makes a new epoch, at which the late request is
refused. What an outcome means:

| outcome | EndTxn | AddPartitionsToTxn | InitProducerId |
| --- | --- | --- | --- |
| no error | done | done | done |
| no connection could be made | not sent: tried again | not sent: tried again | not sent: tried again |
| sent, and no answer | unknown | unknown | unknown |
| CONCURRENT_TRANSACTIONS | unknown | refused: tried again | refused: tried again |
| UNKNOWN_TOPIC_OR_PARTITION | - | refused: tried again | - |
| the coordinator moves, is loading, or is not available | unknown | unknown | refused: tried again |
| any other | error | error | error |

*Refused* is what the broker answers before it takes anything on: to AddPartitionsToTxn, CONCURRENT_TRANSACTIONS while
the markers of the transaction before are being written (after nearly every commit), and UNKNOWN_TOPIC_OR_PARTITION
before the coordinator is asked. To EndTxn neither happens while all is well, since all partitions are added before it.
That the coordinator moved is also what it answers when it accepted an end and then failed to write it
(COORDINATOR_NOT_AVAILABLE and NOT_COORDINATOR stand for errors of its log), so that is unknown. An InitProducerId that
was answered is not on its way any more, and the next one makes an epoch of its own. One that was not answered may come
late and shut out its successor, which then recovers; it tears nothing.

Producers without a transactional id keep aiokafka's own ways: the broker drops what their sequence numbers repeat.

Source: KIP-98, KIP-890; Kafka's TransactionCoordinator (`handleEndTransaction`, `handleAddPartitionsToTransaction`) and
TransactionStateManager (`appendTransactionToLog`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from types import CodeType
from typing import Any

from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    KafkaError,
    NodeNotReadyError,
    NoError,
    NotCoordinatorError,
    OperationNotAttempted,
    ProducerFenced,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.producer import sender

from driftline.core.error import InvariantError

MOVING = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError)


class AskedOnceError(ProducerFenced):  # type: ignore[misc]  # aiokafka's types are not followed
    """A transactional request has no plain answer. A kind of error that aiokafka's sender passes on as it is."""


class _Once(sender.BaseHandler):  # type: ignore[misc]  # likewise
    """In front of one of aiokafka's handlers: each of its requests is sent once, unless the broker refuses it."""

    refusals: frozenset[type[KafkaError]] = frozenset()

    @staticmethod
    def codes(answer: Any) -> Iterator[int]:
        """The error codes of an answer."""
        yield answer.error_code

    async def do(self, node_id: int) -> bool:
        """As aiokafka's own: whether it succeeded; it is called again if not."""
        if self._sender._txn_manager.transactional_id is None:
            return bool(await super().do(node_id))
        request = self.create_request()
        name = type(request).__name__.removesuffix("Request")
        try:
            answer = await self._sender.client.send(node_id, request, group=self.group)
        except NodeNotReadyError:
            await asyncio.sleep(self.handle_error())
            return False
        except IncompatibleBrokerVersion:
            raise
        except KafkaError as error:
            raise AskedOnceError(f"{name} was sent and not answered ({error!r:.200})") from error
        backoff_s = self.handle_response(answer)
        if backoff_s is None:
            return True
        kinds = {for_code(code) for code in self.codes(answer)} - {NoError, OperationNotAttempted}
        if not kinds <= self.refusals:
            raise AskedOnceError(f"{name} was answered with {', '.join(sorted(kind.__name__ for kind in kinds))}")
        await asyncio.sleep(backoff_s)
        return False


class InitPIDHandler(_Once, sender.InitPIDHandler):  # type: ignore[misc]  # likewise
    """InitProducerId."""

    refusals = frozenset({ConcurrentTransactions, *MOVING})


class AddPartitionsToTxnHandler(_Once, sender.AddPartitionsToTxnHandler):  # type: ignore[misc]  # likewise
    """AddPartitionsToTxn."""

    refusals = frozenset({ConcurrentTransactions, UnknownTopicOrPartitionError})

    @staticmethod
    def codes(answer: Any) -> Iterator[int]:
        for _, partitions in answer.errors:
            for _, code in partitions:
                yield code


class EndTxnHandler(_Once, sender.EndTxnHandler):  # type: ignore[misc]  # likewise
    """EndTxn."""


# Who makes each handler in aiokafka, and which request it alone makes.
HANDLERS = {
    "InitPIDHandler": (InitPIDHandler, "_do_init_pid", "InitProducerIdRequest"),
    "AddPartitionsToTxnHandler": (AddPartitionsToTxnHandler, "_do_add_partitions_to_txn", "AddPartitionsToTxnRequest"),
    "EndTxnHandler": (EndTxnHandler, "_do_txn_commit", "EndTxnRequest"),
}


def install() -> None:
    """Put the handlers above in place of aiokafka's, in this process.

    Raises:
        InvariantError: this aiokafka sends transactional requests in another way than the one that we know.
    """
    if all(getattr(sender, name, None) is mended for name, (mended, _, _) in HANDLERS.items()):
        return
    if wrong := _differences():
        raise InvariantError(
            f"aiokafka {version('aiokafka')} works differently than Driftline expects ({wrong}), and a commit that "
            "is sent twice "
            "could tear a transaction; install the supported version: pip install 'aiokafka>=0.14,<0.15'"
        )
    for name, (mended, _, _) in HANDLERS.items():
        setattr(sender, name, mended)


def _differences() -> str:
    """What of aiokafka's sender is not as we count on; empty where all of it is."""
    users = dict(_named_by(sender))
    for name, (mended, maker, request) in HANDLERS.items():
        handler = f"{name}.create_request"
        if users.get(request) != {handler}:
            return f"{request} is made in {sorted(users.get(request, ())) or 'no place'}, not only in {handler}"
        if users.get(name) != {f"Sender.{maker}"}:
            return f"{name} is used in {sorted(users.get(name, ())) or 'no place'}, not only in Sender.{maker}"
        if list(inspect.signature(mended.do).parameters) != list(inspect.signature(sender.BaseHandler.do).parameters):
            return "a handler's do takes other arguments"
        if "do" in mended.__mro__[2].__dict__ or sender.BaseHandler not in mended.__mro__:
            return f"{name} does not send by BaseHandler.do"
    names = sender.BaseHandler.do.__code__.co_names
    if not {"create_request", "send", "group", "handle_error", "handle_response"} <= set(names):
        return "BaseHandler.do sends in another way"
    return ""


def _named_by(module: Any) -> Iterator[tuple[str, set[str]]]:
    """Each global name that a method of the module's classes uses, with these methods."""
    users: dict[str, set[str]] = {}
    for kind in vars(module).values():
        if not inspect.isclass(kind) or kind.__module__ != module.__name__:
            continue
        for name, method in vars(kind).items():
            code = getattr(method, "__code__", None)
            if isinstance(code, CodeType):
                for used in code.co_names:
                    users.setdefault(used, set()).add(f"{kind.__name__}.{name}")
    yield from users.items()
