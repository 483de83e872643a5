"""The package, its pins and its rules agree with one another."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from driftline import __version__
from driftline.cli import RIVER

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in found}


def test_every_dependency_is_pinned_within_its_range(project: dict[str, Any], pins: dict[str, Version]) -> None:
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, text
        assert {one.operator for one in requirement.specifier} >= {"<"}, f"{text} has no upper bound"


def test_pins_name_versions_only() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line), line


def test_versions_agree(project: dict[str, Any]) -> None:
    assert project["version"] == __version__


def test_the_command_is_the_groups() -> None:
    (script,) = entry_points(group="console_scripts", name="driftline") or [None]
    if script is None:
        pytest.skip("the package is not installed here; run the tests with `make test`")
    assert script.value == "driftline.__main__:run"


def test_what_an_installed_document_links_to_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    documents = setuptools["data-files"]["share/driftline/docs"]
    (schemas,) = setuptools["data-files"]["share/driftline/schemas"]
    installed = {(ROOT / name).resolve() for name in documents} | set(ROOT.glob(schemas))
    linked = {
        (ROOT / name).parent.joinpath(link).resolve()
        for name in documents
        for link in re.findall(r"\]\(([^)#:]+)", (ROOT / name).read_text("utf-8"))
    }
    assert linked
    assert linked <= installed


@pytest.mark.parametrize("name", ["pom.xml", "log4j2.xml"])
def test_what_a_broker_needs_is_in_the_package(name: str) -> None:
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert name in package_data["driftline.devbroker"]
    assert files("driftline.devbroker").joinpath(name).is_file()


def test_the_river_that_commands_ask_for_is_the_one_of_the_package(project: dict[str, Any]) -> None:
    (requirement,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "river")
    assert {(one.operator, one.version) for one in requirement.specifier} == {(">=", RIVER[0]), ("<", RIVER[1])}


def test_the_image_names_a_patch_version_of_python() -> None:
    """Another minor may not read the state; see the note in the Dockerfile."""
    stages = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    patches = {re.fullmatch(r"python:(3\.\d+\.\d+)(?:-slim)?(?:-[a-z]+)?", stage) for stage in stages}
    assert None not in patches, stages
    assert len({match[1] for match in patches if match is not None}) == 1, "both stages have one Python"
