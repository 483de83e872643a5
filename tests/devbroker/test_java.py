"""Java and Maven that are missing, too old or fail: each error says what to do; the cache is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.devbroker import java
from driftline.devbroker.java import JavaError, fetch_jars, find_java, jars_folder


def program(folder: Path, name: str, script: str) -> Path:
    """An executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands before the system's own programs, which know neither java nor mvn."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("mkdir", "touch", "sed"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def test_no_java(path: Path) -> None:
    with pytest.raises(JavaError, match="no `java` on PATH.*apt install"):
        find_java()


def test_java_home_that_holds_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(JavaError, match="/nowhere/bin/java .from JAVA_HOME. does not exist"):
        find_java()


@pytest.mark.parametrize(
    ("shown", "found"), [('openjdk version "11.0.2"', "Java 11"), ('java version "1.8.0_292"', "Java 8")]
)
def test_java_too_old(path: Path, shown: str, found: str) -> None:
    program(path, "java", f"echo '{shown}' >&2")
    with pytest.raises(JavaError, match=f"Java 17 or later.* is {found}; install a newer"):
        find_java()


def test_java_that_says_nothing(path: Path) -> None:
    program(path, "java", "echo what >&2")
    with pytest.raises(JavaError, match="did not print a version"):
        find_java()


@pytest.mark.parametrize("shown", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "25" 2025-09-16'])
def test_java_new_enough(path: Path, shown: str) -> None:
    java_program = program(path, "java", f"echo '{shown}' >&2")
    assert find_java() == str(java_program)


def test_java_home_goes_before_path(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    chosen = program(tmp_path / "jdk" / "bin", "java", "echo 'openjdk version \"21.0.1\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java() == str(chosen)


def test_no_maven(path: Path, tmp_path: Path) -> None:
    with pytest.raises(JavaError, match="no `mvn` on PATH") as caught:
        fetch_jars(tmp_path / "cache")
    assert str(jars_folder(tmp_path / "cache")) in str(caught.value)


def test_a_failing_maven_is_quoted_and_leaves_no_cache(path: Path, tmp_path: Path) -> None:
    program(path, "mvn", "echo '[ERROR] Could not transfer artifact'; exit 1")
    with pytest.raises(JavaError, match="(?s)status 1.*Could not transfer artifact.*mirror"):
        fetch_jars(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_jars_are_fetched_once(path: Path, tmp_path: Path) -> None:
    count = tmp_path / "calls"
    count.touch()
    program(
        path,
        "mvn",
        f"""echo called >> {count}
for argument; do case $argument in -DoutputDirectory=*) folder=${{argument#*=}};; esac; done
mkdir -p "$folder"; touch "$folder/kafka.jar" """,
    )
    folder = fetch_jars(tmp_path / "cache")
    assert [jar.name for jar in folder.iterdir()] == ["kafka.jar"]
    assert fetch_jars(tmp_path / "cache") == folder
    assert count.read_text().splitlines() == ["called"]
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_the_cache_is_named_by_version_and_content(tmp_path: Path) -> None:
    assert java.kafka_version() == "4.1.0"
    assert jars_folder(tmp_path).name.startswith("kafka-4.1.0-")
