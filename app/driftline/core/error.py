"""Every error that Driftline raises on purpose.

Bad input is never an error: it becomes a record on the rejected topic. What is raised here is either a fault of
the operation (a broker, a file, a setting), whose text tells the user what to do, or a broken invariant, which
stops the shard because going on would make state that cannot be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftline.core.record import Source


class DriftlineError(Exception):
    """Root of the tree; its text ends with what the user can do."""

    exit_code = 1


class InvariantError(DriftlineError):
    """Something that must always hold does not: a bug, or state that was tampered with."""

    exit_code = 70


class JournalError(InvariantError):
    """The journal holds a record that does not belong there.

    Args:
        source: that record.
    """

    def __init__(self, text: str, source: Source) -> None:
        self.source = source
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a pipeline file.

    Args:
        path: where in the file, keys joined by dots (`event.features.amount.type`).
        value: the wrong value as it stands in the file, or None where a key is missing.
        message: what is wrong with it, and what is allowed there.
        place: the file's name, and the line where it is known (`pipeline.yaml:7`); empty of what is in no file.
    """

    path: str
    value: object
    message: str
    place: str = ""

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r:.120}"
        parts = (self.place, f"{self.path}{shown}", self.message)
        return ": ".join(part for part in parts if part)


class PipelineError(DriftlineError):
    """The pipeline file is wrong; `problems` says where, what stands there and what is allowed."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class ExpressionError(DriftlineError):
    """A River expression cannot be built; the text names the place in it and what is allowed."""

    exit_code = 2


class UnseededError(ExpressionError):
    """A part of a model or detector draws random numbers that no seed controls, so nothing could be replayed."""


class SettingsError(DriftlineError):
    """A setting of this deployment (environment variable or flag) is wrong."""

    exit_code = 2


class DependencyError(DriftlineError):
    """A library is installed in a version that this one does not know."""

    exit_code = 2


class InputFileError(DriftlineError):
    """A file that a command was given cannot be read as what it should be."""

    exit_code = 2


class BrokerError(DriftlineError):
    """Kafka cannot be reached, or refuses what we need from it."""

    exit_code = 3


class UnreachableError(BrokerError):
    """Kafka does not answer. It may come back by itself: a worker waits for it."""


class AccessError(BrokerError):
    """Kafka answers, and refuses who we say we are or how we speak to it: user, password, mechanism, TLS."""


class GroupTakenError(BrokerError):
    """The consumer group has members that share it in another way, such as workers of an earlier version. They may
    leave: a worker waits for it."""


class TopicError(BrokerError):
    """A topic is missing, or has settings that the engine cannot work with."""


class CommitUnknownError(DriftlineError):
    """A commit neither surely happened nor surely failed: the shard must recover before it goes on."""


class ForeignWriterError(CommitUnknownError):
    """The journal holds an entry that this owner did not write: another worker has the shard."""


class RecoveryError(DriftlineError):
    """State cannot be derived again from snapshot, journal and inputs."""

    exit_code = 4


class DigestMismatchError(RecoveryError):
    """A slice replayed did not make the outputs that the journal says it made."""


class InputLostError(RecoveryError):
    """Input records that the journal names are no longer retained by the broker.

    Args:
        lost: which, as text.
        advice: what to do; by default, what a worker can do.
    """

    def __init__(
        self,
        lost: str,
        advice: str = "Set retention.ms longer than label.wait; to continue with what is left, start once with "
        "--on-gap continue",
    ) -> None:
        self.lost = lost
        super().__init__(f"{lost}. {advice}")


class RangeLostError(InputLostError):
    """Some of the records that one slice took in are gone.

    Args:
        place: the input.
        wanted, found: how many records the journal names, and how many there are.
        start: first offset of the slice's range.
    """

    def __init__(self, lost: str, *, place: tuple[str, int], wanted: int, found: int, start: int) -> None:
        self.place, self.wanted, self.found, self.start = place, wanted, found, start
        super().__init__(lost)


class StateUnreadableError(InputLostError):
    """A snapshot holds the state, and only other versions can read it, while the inputs that would make it are gone.

    `--on-gap continue` does not pass over it: a model that can still be read is not thrown away unasked.
    """


class InputReplacedError(InputLostError):
    """An input was deleted and recreated under its name."""


class PartitionsChangedError(InputLostError):
    """An input has another number of partitions than the state was made with, or the journal, that is, another number
    of shards."""


class JournalReplacedError(RecoveryError):
    """The journal was deleted and recreated under its name."""


class StateMismatchError(RecoveryError):
    """The pipeline file changed in a way that the recorded state cannot follow."""


class UnsignedStateError(RecoveryError):
    """Snapshots or journal are not signed as the keys of this worker want it."""


class SnapshotError(DriftlineError):
    """A snapshot is torn, tampered with, or of another version; the older one or the journal takes its place."""


class UnsignedSnapshotError(SnapshotError):
    """A snapshot that no key of this deployment signed."""
