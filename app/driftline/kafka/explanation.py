"""What a broker's refusal means to the person who keeps it running."""

from __future__ import annotations

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidProducerIdMapping,
    InvalidTimestampError,
    KafkaStorageError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
)

_ALTER = "kafka-configs --alter --entity-type topics --entity-name {topic} --add-config"
_TOO_LARGE = (
    "a record is too large for {topic}: its max.message.bytes was lowered. Set it as `driftline topics check` "
    f"says ({_ALTER} max.message.bytes=BYTES)"
)
_REPLICAS = (
    "too few replicas of {topic} are in sync for its min.insync.replicas; restore the missing brokers, or lower that "
    "setting"
)
_ADVICE: dict[type[BaseException], str] = {
    MessageSizeTooLargeError: _TOO_LARGE,
    RecordListTooLargeError: _TOO_LARGE,
    KafkaStorageError: (
        "a broker cannot write to its disk (full or broken); free some space or replace it, then restart the broker"
    ),
    NotEnoughReplicasError: _REPLICAS,
    NotEnoughReplicasAfterAppendError: _REPLICAS,
    InvalidTimestampError: (
        "{topic} refuses a record time that its input accepted; set message.timestamp.after.max.ms and "
        f"message.timestamp.before.max.ms as `driftline topics check` says ({_ALTER} KEY=VALUE)"
    ),
    UnknownTopicOrPartitionError: "{topic} does not exist (any more); create it with `driftline topics create -p FILE`",
    TopicAuthorizationFailedError: "this user may not use {topic}; grant the rights that docs/security.md lists",
    GroupAuthorizationFailedError: "this user may not use the pipeline's group; grant READ on driftline-<pipeline>",
    InconsistentGroupProtocolError: (
        "the pipeline's consumer group has members that are not workers of this version (0.2.0 or another program); "
        "stop them: this worker joins when they have left"
    ),
    TransactionalIdAuthorizationFailed: (
        "this user may not use the pipeline's transactional ids; grant WRITE and DESCRIBE on those that start with its "
        "name"
    ),
    ClusterAuthorizationFailedError: "this user may not write idempotently; grant IDEMPOTENT_WRITE on the cluster",
    PolicyViolationError: "a policy of this cluster refuses it; ask its administrator",
    CorruptRecordException: (
        "data of {topic} fails its checksum: a disk or the network corrupts it. Check the broker's disks; if one "
        "replica is intact, make it the leader"
    ),
    UnsupportedCodecError: "records use a compression codec that is not installed; pip install cramjam",
    InvalidProducerIdMapping: "the transactional id was idle for so long that the broker forgot it; it is opened again",
}


def advice(error: BaseException, topic: str = "") -> str:
    """What to do about an error of a broker, as text; empty where the error says all there is.

    Args:
        topic: what was written or read; empty where only the error may know.
    """
    for kind in type(error).__mro__:
        if (advice_text := _ADVICE.get(kind)) is not None:
            return f"{advice_text.format(topic=topic or _topic_of(error))} ({type(error).__name__})"
    return ""


def _topic_of(error: BaseException) -> str:
    """The topics that an error names; in words where it names none."""
    named = error.args[0] if error.args else None
    topics = [named] if isinstance(named, str) else sorted(map(str, named)) if isinstance(named, set | list) else []
    return ", ".join(topics) or "a topic of the pipeline"
