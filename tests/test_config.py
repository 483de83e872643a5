"""Reading the pipeline file, and the settings of a deployment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from driftline.config import (
    dump_pipeline,
    load_outline,
    load_pipeline,
    load_settings,
    read_pipeline,
    read_yaml,
    yaml_scalar,
)
from driftline.core.error import InputFileError, PipelineError, SettingsError

FILE = """\
pipeline: card-fraud
task: binary
event:
  id: payment_id
  features:
    amount: number
    country: {path: card.country, type: string, missing: no}   # Norway
label: {id: payment_id, value: is_fraud, positive: 1, wait: 7d}
params: {lr: 1e-3}
model: |
  (Select('amount') | StandardScaler()) + (Select('country') | OneHotEncoder())
  | LogisticRegression(optimizer=SGD($lr))
"""


def problems_of(text: str, *overrides: str) -> str:
    with pytest.raises(PipelineError) as caught:
        read_pipeline(text, overrides)
    return str(caught.value)


# -- YAML


def test_words_are_words_and_numbers_are_numbers() -> None:
    pipeline = read_pipeline(FILE)
    assert pipeline.event.features["country"].fill == "no"
    assert pipeline.params == {"lr": 0.001}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("true", True), ("False", False), ("~", None), ("null",
        None), ("", None),
        ("10", 10), ("-7", -7), ("0x1F", 31), ("0o17", 15), ("1e-3", 0.001), ("1.5", 1.5), (".5", 0.5),
        ("12:30", "12:30"),
        ("1_000", "1_000"), ("2020-01-01", "2020-01-01"), ("'010'", "010"), ("'1'", "1"), ("\"a\\tb\"",
        "a\tb"), ("0", 0), ("0.0", 0.0),
        ("=", "="), ("<<", "<<"), ("[1, [a]]", [1, ["a"]]), ("{a: {b: 1}}", {"a": {"b": 1}}), ("!!str 1", "1"),
        ("!!float 1", 1.0),
    ],
)  # fmt: skip
def test_scalars_as_yaml_1_2_has_them(text: str, value: object) -> None:
    read, _ = read_yaml(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 010", "line 1, column 4: 010 is ambiguous"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: duplicate key 'a', first in line 1"),
        ("a: {b: 1, b: 2}", "duplicate key 'b'"),
        ("a: &x 1\nb: *x", "line 2, column 4: aliases"),
        ("a: !!python/object/apply:os.system ['x']", "line 1"),
        ("a: !mine 1", "is not allowed"),
        ("a: !!int x", "is not allowed"),
        ("? [1]\n: 2", "a key must be a string"),
        ("a: [", "line 1, column 5"),
        ("a: b: c", "line 1, column 5"),
        ("---\na: 1\n---\nb: 2", "another document"),
        ("[" * 1_000, "levels"),
        ("a:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 100)), "levels"),
        ("a: \x00", "not valid YAML"),
        ("\t- a", "line 1, column 1"),
        ("1" * 10_000, "10,000 digits"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_yaml_that_is_refused(text: str, told: str) -> None:
    assert told in problems_of(text)


def test_problems_name_their_line() -> None:
    assert "event.features.amount.type = 'nmber'" in problems_of(FILE.replace("amount: number", "amount: nmber"))
    assert "line 6: " in problems_of(FILE.replace("amount: number", "amount: nmber"))
    assert "line 7: " in problems_of(FILE.replace("missing: no", "missing: [1]"))
    assert "line 10: " in problems_of(FILE.replace("StandardScaler", "StandrdScaler"))
    assert "line 8: " in problems_of(FILE.replace("wait: 7d", "wate: 7d"))


@pytest.mark.parametrize(
    "value", ["no", "1e3", "010", "-", "1_000", "12:30", "~", "null", "", " x", "true", "0x1", ".5", "# a"]
)
@pytest.mark.parametrize(
    "kind", [str, lambda text: {"a": text}, lambda text: [text, text]], ids=["plain", "mapping", "list"]
)
def test_text_is_quoted_where_it_must_be(kind: Any, value: str) -> None:
    assert read_yaml(yaml_scalar(kind(value)))[0] == kind(value)


@pytest.mark.parametrize("value", [1, -1, 1.5, 1e16, 1e-7, True, None, "é\nü", "x" * 500, 5.0])
def test_values_are_written_as_they_are_read(value: object) -> None:
    assert read_yaml(yaml_scalar(value))[0] == value


def test_the_resolved_file_reads_back_to_the_same() -> None:
    pipeline = read_pipeline(FILE)
    assert read_pipeline(dump_pipeline(pipeline)) == pipeline
    assert "model: |" in dump_pipeline(pipeline)


# -- overrides


def test_overrides_replace_values() -> None:
    pipeline = read_pipeline(FILE, ["params.lr=0.5", "seed=7", "limits.string_max=10", "topics.events=other"])
    assert (pipeline.params["lr"], pipeline.seed) == (0.5, 7)
    assert (pipeline.limits.string_max, pipeline.topics.events) == (10, "other")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("params.lr", "write key.key=value"),
        ("=1", "write key.key=value"),
        ("params..lr=1", "write key.key=value"),
        ("task.x=1", "task is not a mapping"),
        ("params.lx=1", "is not used"),
        ("prams.lr=1", "did you mean 'params'?"),
        ("seed=[", "line 1"),
    ],
)
def test_overrides_that_are_wrong(override: str, told: str) -> None:
    assert told in problems_of(FILE, override)


# -- files


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FILE.encode())
    assert load_pipeline(path) == read_pipeline(FILE)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "does not exist"), (b"\xff\xfe", "not UTF-8"), (b"#" * 1_000_001, "larger than"), (..., "is a folder")],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: Any, told: str) -> None:
    path = tmp_path / "pipeline.yaml"
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputFileError, match=told):
        load_pipeline(path)


def test_a_factory_in_the_folder_of_the_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_factory_of_mine.py").write_text(
        "from river import linear_model\n"
        "def make(params): return linear_model.LogisticRegression(l2=params['l2'])\n"
        "def fail(): raise OSError('gone')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    start = FILE.partition("params:")[0]
    assert read_pipeline(start + "params: {l2: 0.1}\nmodel: a_factory_of_mine:make").model == "a_factory_of_mine:make"
    assert "raised OSError: gone" in problems_of(start + "model: a_factory_of_mine:fail")


# -- settings


def test_settings_by_default(tmp_path: Path) -> None:
    settings = load_settings({"XDG_DATA_HOME": str(tmp_path)})
    assert settings.bootstrap == "127.0.0.1:9092"
    assert settings.data_dir == tmp_path / "driftline"
    assert load_settings({}).data_dir == Path.home() / ".driftline"
    assert (settings.web_port, settings.pipeline, settings.snapshot_key) == (6066, None, None)


def test_flags_override_the_environment() -> None:
    environ = {"DRIFTLINE_BOOTSTRAP": "a:1, b:2", "DRIFTLINE_WEB_PORT": "80", "DRIFTLINE_PIPELINE": "x.yaml"}
    settings = load_settings(environ, {"web_port": 81, "bootstrap": None})
    assert (settings.bootstrap, settings.web_port, settings.pipeline) == ("a:1,b:2", 81, Path("x.yaml"))


def test_empty_variables_count_as_unset() -> None:
    assert load_settings({"DRIFTLINE_WEB_PORT": " "}).web_port == 6066


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"DRIFTLINE_BOOTSTRAP": "kafka"}, "is not host:port"),
        ({"DRIFTLINE_BOOTSTRAP": "kafka:99999"}, "has no port from 1 to 65535"),
        ({"DRIFTLINE_BOOTSTRP": "kafka:1"}, "did you mean DRIFTLINE_BOOTSTRAP?"),
        ({"DRIFTLINE_WEB_PORT": "high"}, "from 1 to 65535"),
        ({"DRIFTLINE_PARTITIONS": "0"}, "from 1 to 10000"),
        ({"DRIFTLINE_SECURITY_PROTOCOL": "TLS"}, "PLAINTEXT, SSL"),
        ({"DRIFTLINE_LOG_LEVEL": "loud"}, "DEBUG"),
        ({"DRIFTLINE_SASL_MECHANISM": "OAUTHBEARER"}, "must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI"),
        ({"DRIFTLINE_SNAPSHOT_KEY": "short"}, "at least 16"),
        ({"DRIFTLINE_SSL_CAFILE": "/nowhere/ca.pem"}, "no such file"),
        ({"DRIFTLINE_SECURITY_PROTOCOL": "SASL_SSL"}, "DRIFTLINE_SASL_PASSWORD: is required"),
        ({"DRIFTLINE_SASL_USERNAME": "me"}, "set it to SASL_SSL"),
    ],
)
def test_settings_that_are_wrong(environ: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert told in str(caught.value)


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"DRIFTLINE_WEB_PORT": "x", "DRIFTLINE_LOG_LEVEL": "x"}, {"partitions": "x"})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("file", ["CAFILE", "CERTFILE", "KEYFILE"])
@pytest.mark.parametrize(("protocol", "meant"), [("", "SSL"), ("PLAINTEXT", "SSL"), ("SASL_PLAINTEXT", "SASL_SSL")])
def test_files_for_tls_without_tls_are_refused(tmp_path: Path, file: str, protocol: str, meant: str) -> None:
    """Who forgets the protocol would send everything in the clear."""
    pem = tmp_path / "some.pem"
    pem.write_text("")
    environ = {
        "DRIFTLINE_SECURITY_PROTOCOL": protocol,
        f"DRIFTLINE_SSL_{file}": str(pem),
        **({"DRIFTLINE_SASL_USERNAME": "me", "DRIFTLINE_SASL_PASSWORD": "x"} if "SASL" in protocol else {}),
    }
    with pytest.raises(SettingsError, match=rf"DRIFTLINE_SSL_{file}: is set, but .*uses no TLS; set it to {meant},"):
        load_settings(environ)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    pem = tmp_path / "cert.pem"
    pem.write_text("")
    with pytest.raises(SettingsError, match="both or none"):
        load_settings({"DRIFTLINE_SSL_CERTFILE": str(pem)})


def test_secrets_are_not_shown() -> None:
    secret = "correct horse battery"
    environ = {
        "DRIFTLINE_SNAPSHOT_KEY": secret,
        "DRIFTLINE_SASL_PASSWORD": secret,
        "DRIFTLINE_SASL_USERNAME": "me",
        "DRIFTLINE_SECURITY_PROTOCOL": "sasl_ssl",
    }
    settings = load_settings(environ)
    assert settings.security_protocol == "SASL_SSL"
    assert settings.snapshot_key == secret
    assert secret not in repr(settings)
    for name, text in (
        ("SNAPSHOT_KEY", "hush hush"),
        ("BOOTSTRAP", "user:hush hush@kafka:9092"),
        ("BOOTSTRAP", "kafka:9092,hush hush@kafka:9092"),
        ("BOOTSTRAP", "SASL_SSL://user:hush hush@kafka:9092"),
    ):
        with pytest.raises(SettingsError) as caught:
            load_settings({f"DRIFTLINE_{name}": text})
        assert "hush hush" not in str(caught.value)


# -- what a command that builds nothing reads


def test_an_outline_is_the_pipeline_without_what_building_finds(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(FILE)
    whole, outline = load_pipeline(path), load_outline(path)
    assert outline.metrics == ()
    assert outline.model_copy(update={"metrics": whole.metrics}) == whole
    named = ("metrics=[ROCAUC]", "delivery=at_least_once")
    assert load_outline(path, named) == load_pipeline(path, named)


def test_an_outline_takes_expressions_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(FILE.replace("LogisticRegression", "LogisticRegresion"))
    with pytest.raises(PipelineError):
        load_pipeline(path)
    assert "LogisticRegresion" in load_outline(path).model


@pytest.mark.parametrize(
    "override",
    [
        "task=binray", "topics.scores=card-fraud.outcomes", "event.features.amount=nmber", "event.key=integer",
        "event.features.amount.missing=none", "label=~", "label.negative=1", "label.wait=1y", "snapshot.every=0",
        "limits.slice_compute_max=0", "colour=red",
    ],
)  # fmt: skip
def test_what_an_outline_reads_has_the_same_problems_in_the_same_words(tmp_path: Path, override: str) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(FILE.replace("amount: number", "amount: {type: number}"))
    with pytest.raises(PipelineError) as of_outline:
        load_outline(path, (override,))
    with pytest.raises(PipelineError) as of_whole:
        load_pipeline(path, (override,))
    assert str(of_outline.value) == str(of_whole.value)


@pytest.mark.parametrize(
    "text",
    [
        '? "' + "a" * 100_000 + '"\n: [' + "1," * 10_000 + "]\n",
        "{"
        + "".join(f"{'a' * 900}{at}: {{" for at in range(25))
        + ", ".join(f"b{n}: 1" for n in range(9_000))
        + "}" * 26,
    ],
)
def test_keys_that_are_long_and_stand_above_much_take_no_memory(text: str) -> None:
    """The way to each value is kept, for its line: a file of a megabyte could make 50 GB of that."""
    with pytest.raises(PipelineError, match="keys are too long"):
        read_yaml(text)


@pytest.mark.parametrize("number", ["0x" + "f" * 6_000, "0o" + "7" * 6_000, "9" * 6_000, "9" * 200])
@pytest.mark.parametrize("place", ["seed: {}", "metric_window: {}", "params: {{a: {}}}", "limits: {{number_max: {}}}"])
def test_a_number_of_very_many_digits_is_refused_with_its_line(number: str, place: str) -> None:
    with pytest.raises(PipelineError, match="line 2, column .* digits; at most 100"):
        read_pipeline("pipeline: cards\n" + place.format(number))


def test_a_file_of_very_many_values_is_refused_before_it_is_read() -> None:
    begun_s = time.process_time()
    with pytest.raises(PipelineError, match="more than 60,000 keys and values"):
        read_pipeline("pipeline: cards\nx: [" + "1," * 490_000 + "]")
    assert time.process_time() - begun_s < 20


def test_problems_of_a_file_name_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"

    def told(text: str) -> str:
        file.write_text(text)
        texts = set()
        for load in (load_pipeline, load_outline):
            with pytest.raises(PipelineError) as caught:
                load(file)
            texts.add(str(caught.value))
        (one,) = texts
        return one

    assert told(FILE.replace("wait: 7d", "wate: 7d")).startswith(f"{file}:8: label")
    assert told("pipeline: x\n  task: [").startswith(f"{file}: line 2, column 7: ")
    assert f"{file}: event: " in told("pipeline: x\ntask: binary\n")
