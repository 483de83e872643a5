"""Java and Kafka's jars: found, checked and fetched, each with an error that says what to install.

The jars come by Maven from `pom.xml` beside this module, once, into a cache folder whose name holds a digest
of that file. They are fetched into a folder of their own that is renamed when whole, so that a broken
download is never taken for a cache and two downloads at once do no harm.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driftline.core.error import BrokerError

JAVA_MIN = 17
HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
MAVEN_TIMEOUT_S = 900.0
_INSTALL = (
    "Debian/Ubuntu: apt install openjdk-17-jre-headless maven; "
    "Fedora: dnf install java-17-openjdk-headless maven; macOS: brew install openjdk maven"
)


class JavaError(BrokerError):
    """Java, Maven or Kafka's jars are not there; the text says how to get them."""


def default_cache() -> Path:
    """Where jars are kept when no folder is given: `driftline` in the user's cache folder (XDG)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "driftline"


def find_java() -> str:
    """The `java` of JAVA_HOME, else of PATH, when it is new enough.

    Raises:
        JavaError: there is none, or it is older than Java 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        where = f"{java} (from JAVA_HOME) does not exist" if java else "no `java` on PATH"
        raise JavaError(f"a real Kafka needs Java {JAVA_MIN} or later: {where}. {_INSTALL}")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaError(f"{java} -version failed: {error}. {_INSTALL}") from error
    shown = done.stderr
    found = re.search(r'version "(\d+)(?:\.(\d+))?', shown)
    if found is None:
        raise JavaError(f"{java} -version did not print a version: {shown.strip()[:200]!r}. {_INSTALL}")
    version = int(found[2] or 0) if found[1] == "1" else int(found[1])
    if version < JAVA_MIN:
        raise JavaError(
            f"a real Kafka needs Java {JAVA_MIN} or later, {java} is Java {version}; "
            f"install a newer one and set JAVA_HOME to it. {_INSTALL}"
        )
    return java


def kafka_version() -> str:
    """The Kafka version that the pom names."""
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)<", POM.read_text("utf-8"))
    return found[1] if found else "unknown"


def jars_folder(cache: Path) -> Path:
    """The folder in the cache that holds, or will hold, the jars of this version's pom."""
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return cache / f"kafka-{kafka_version()}-{digest}"


def fetch_jars(cache: Path | None = None) -> Path:
    """The folder with Kafka's jars; fetched by Maven the first time (46 jars, 43 MB).

    Args:
        cache: the folder above it; `default_cache()` when None.

    Raises:
        JavaError: no Maven, or it failed; the text holds the end of what it printed.
    """
    cache = default_cache() if cache is None else cache
    folder = jars_folder(cache)
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise JavaError(
            f"Kafka's jars are not in {folder} and there is no `mvn` on PATH to download them. {_INSTALL}; "
            f"or copy the `libs` folder of an Apache Kafka {kafka_version()} download to {folder}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        if not folder.is_dir():
            _fetch(maven, cache, folder)
    return folder


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process at a time: two Mavens that fill one repository can disturb each other."""
    lock = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _fetch(maven: str, cache: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as place:
        shutil.copy(POM, place)
        command = [
            maven,
            "-B",
            "-ntp",
            "-q",
            "-f",
            f"{place}/pom.xml",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={place}/jars",
            "-DincludeScope=runtime",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise JavaError(
                f"Maven did not finish in {MAVEN_TIMEOUT_S:g} s; check the network and the "
                "mirror in ~/.m2/settings.xml, then try again"
            ) from error
        if done.returncode:
            raise JavaError(
                f"Maven failed to download Kafka's jars (status {done.returncode}):\n"
                f"{_end_of(done.stdout + done.stderr)}\n"
                "check the network and the mirror in ~/.m2/settings.xml, then try again"
            )
        _rename_whole(Path(place) / "jars", folder)


def _rename_whole(made: Path, folder: Path) -> None:
    """Put a whole folder in its place; another process may have been quicker with the same."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _end_of(text: str) -> str:
    """The first lines of Maven's complaint: what follows them is advice about flags."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines() if line.strip()]
    return "\n".join(lines[:8])[:2_000]
