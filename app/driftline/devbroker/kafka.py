"""One real Apache Kafka node in KRaft mode on 127.0.0.1, for development, tests and benchmarks.

Broker and controller share one JVM. The controller is named by static voters rather than by `--standalone`,
whose voter set, once formatted, is tied to the controller's port: here a kept data folder may come up on
other ports. Topics are not created on first use: one that appeared by a typo, or a journal with default
retention, loses data quietly.

    with kafka.start(partitions=4) as broker:
        print(broker.bootstrap)
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from driftline.core.error import BrokerError, InvariantError
from driftline.devbroker import java
from driftline.devbroker.node import (
    HOST,
    Node,
    free_port,
    hold_still,
    port_is_free,
    read_line,
    start_module,
    stop_process,
    wait_for,
)

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 25.0  # longer than the guard's own patience
FORMAT_TIMEOUT_S = 120.0
ATTEMPT_MAX = 5
DOWN = "the broker is not running; start it first"
HEAP = "512m"
# A killed broker may come back only when its old session is over: 9 s as shipped.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}{listeners}
advertised.listeners=PLAINTEXT://{host}:{port}{listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={logs}
num.partitions={partitions}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
"""


class KafkaNode(Node):
    """See the module. Made by `start`."""

    kind = "kafka"

    def __init__(
        self,
        *,
        port: int | None,
        partitions: int,
        data: Path | None,
        cache: Path | None,
        listeners: Mapping[str, int],
        properties: Mapping[str, str],
    ) -> None:
        self._java = java.find_java()
        self._jars = java.fetch_jars(cache)
        self._fixed = port
        self._listeners = "".join(f",{protocol}://{HOST}:{number}" for protocol, number in listeners.items())
        self._properties = "".join(f"{name}={value}\n" for name, value in properties.items())
        self._partitions = partitions
        self._keep = data is not None
        self._data = data.resolve() if data is not None else Path(tempfile.mkdtemp(prefix="driftline-kafka-"))
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.port = 0

    @property
    def bootstrap(self) -> str:  # type: ignore[override]  # an attribute of Node, known only once a port is taken
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The JVM's process id."""
        return self._pid

    @property
    def log(self) -> Path:
        """Where the node's own output goes."""
        return self._data / "broker.log"

    def alive(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start, on the port of the last start if there was one, and wait until it answers.

        Raises:
            BrokerError: it is running already, the port is taken, or it did not come up.
        """
        if self.alive():
            raise BrokerError(f"the broker at {self.bootstrap} is already running; stop it first")
        self._data.mkdir(parents=True, exist_ok=True)
        wanted = self.port or self._fixed
        if wanted and not port_is_free(wanted):
            raise BrokerError(f"port {wanted} on {HOST} is in use; give another --port, or omit it to use a free one")
        for attempt in range(1, ATTEMPT_MAX + 1):
            self.port = wanted or free_port()
            try:
                self._start_once()
            except BrokerError as error:
                self._stop_guard()
                if "Address already in use" not in str(error) or attempt == ATTEMPT_MAX:
                    raise
            else:
                return

    def stop(self) -> None:
        self._stop_guard()
        if not self._keep:
            shutil.rmtree(self._data, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL the JVM, as a power cut would; its data stays for `start`."""
        self._signal(signal.SIGKILL)
        if self._guard is not None:
            self._guard.wait()
        self._stop_guard()

    def restart(self) -> None:
        """Stop cleanly and start again on the same port with the same data."""
        self._stop_guard()
        self.start()

    def pause(self) -> None:
        """SIGSTOP the JVM: connections stay open and nothing answers, as in a long stall; see `hold_still`."""
        if not self.alive():
            raise BrokerError(DOWN)
        hold_still(self._pid)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def create_topics(self, topics: Mapping[str, int]) -> None:
        from driftline.kafka.topic import create_plain

        create_plain(self.bootstrap, topics)

    def _signal(self, number: int) -> None:
        """Send to the JVM; its process id is only known to be its own while the guard has not reaped it."""
        if not self.alive():
            raise BrokerError(DOWN)
        os.kill(self._pid, number)

    def _stop_guard(self) -> None:
        if self._guard is not None:
            stop_process(self._guard, STOP_TIMEOUT_S)
            self._guard = None

    def _start_once(self) -> None:
        """Write the settings, format the data folder if it is new, start the JVM, wait for an answer."""
        properties = self._data / "server.properties"
        logs = self._data / "log"
        properties.write_text(
            _PROPERTIES.format(
                host=HOST,
                port=self.port,
                controller=free_port(),
                listeners=self._listeners,
                logs=logs,
                partitions=self._partitions,
            )
            + self._properties,
            "utf-8",
        )
        if not (logs / "meta.properties").exists():
            self._format(properties)
        offset = self.log.stat().st_size if self.log.exists() else 0
        remove = [] if self._keep else ["--remove", str(self._data)]
        command = [
            *self._jvm(f"-Xmx{HEAP}", "-Xms128m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
            "kafka.Kafka",
            str(properties),
        ]
        with self.log.open("ab") as log:
            self._guard = start_module("driftline.devbroker.guard", [*remove, "--", *command], stderr=log)
        pid = read_line(self._guard, START_TIMEOUT_S)["pid"]
        if not isinstance(pid, int):
            raise InvariantError(f"the guard gave {pid!r} as a process id; report this")
        self._pid = pid
        up = wait_for(lambda: not self.alive() or answers(self.port), START_TIMEOUT_S)
        if not up or not self.alive():
            why = "ended" if up else f"did not answer within {START_TIMEOUT_S:g} s"
            raise BrokerError(
                f"Kafka {why}:\n{self._complaint(offset)}\nfull log: {self.log}"
                + ("" if self._keep else "; give --data DIR to keep it")
            )

    def _format(self, properties: Path) -> None:
        """Write the cluster id into a new data folder."""
        command = [
            *self._jvm("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            _cluster_id(),
            "-c",
            str(properties),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
        if done.returncode:
            shown = (done.stdout + done.stderr).strip()[-2_000:]
            raise BrokerError(f"Kafka could not format {self._data}:\n{shown}\nuse an empty folder that you own")

    def _jvm(self, *options: str) -> list[str]:
        """The command up to the class to run."""
        return [
            self._java,
            *options,
            "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true",
            f"-Dlog4j2.configurationFile={java.HERE / 'log4j2.xml'}",
            "-cp",
            f"{self._jars}/*",
        ]

    def _complaint(self, offset: int) -> str:
        """The lines of the node's output since `offset` that say what went wrong, or the last ones."""
        with self.log.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode("utf-8", "replace").splitlines()
        bad = [line for line in lines if re.search(r"\b(ERROR|FATAL)\b|Exception|Error:", line)]
        return "\n".join((bad or lines)[-12:])


def start(
    *,
    port: int | None = None,
    partitions: int = 4,
    data: Path | None = None,
    cache: Path | None = None,
    listeners: Mapping[str, int] | None = None,
    properties: Mapping[str, str] | None = None,
) -> KafkaNode:
    """Start a node and return when it answers.

    Args:
        port: of 127.0.0.1 for clients; a free one when None.
        partitions: of topics that are created without a number.
        data: where it keeps its topics; a temporary folder, removed at the end, when None.
        cache: where the jars are kept; see `java.default_cache`.
        listeners: more ports for clients, by security protocol (SSL, SASL_PLAINTEXT, SASL_SSL); what those need stands
            in `properties`.
        properties: further lines of server.properties, which override the node's own.

    Raises:
        JavaError: Java or Maven is missing, too old or failed.
        BrokerError: the port is taken, or the node did not come up.
    """
    node = KafkaNode(
        port=port,
        partitions=partitions,
        data=data,
        cache=cache,
        listeners=listeners or {},
        properties=properties or {},
    )
    try:
        node.start()
    except BaseException:
        node.stop()
        raise
    return node


def answers(port: int) -> bool:
    """Whether a broker on 127.0.0.1:port answers a metadata request and counts itself in its cluster.

    An open port is not enough: the listener is up before the broker is registered. Written out by hand
    (Metadata v4, KIP-4): a client's own retries would hide the answer.
    """
    body = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">iB", 0, 0)
    try:
        with socket.create_connection((HOST, port), timeout=2.0) as link:
            link.sendall(struct.pack(">i", len(body)) + body)
            with link.makefile("rb") as answer:
                head = answer.read(16)
    except OSError:
        return False
    # size, correlation id, throttle time, number of brokers
    return len(head) == 16 and int(struct.unpack(">iiii", head)[3]) >= 1


def _cluster_id() -> str:
    """A random id in the form that Kafka wants: 16 bytes, URL-safe base64, no leading dash."""
    return "A" + base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")[1:]


def main() -> None:
    """Start a node, print its address, stay until the input ends (`python -m driftline.devbroker.kafka`)."""
    with start() as node:
        print(node.bootstrap, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
