"""A model file on its way into a shard: whole, of one load, of this pipeline and these versions, or not at all."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import pickle
import random
from itertools import permutations
from typing import Any

import msgspec
import pytest
from msgspec import structs

from driftline.codec.decode import COMMANDS, Decoder
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import encode_model, parts, refusal
from driftline.core.digest import digest_of
from driftline.core.error import RecoveryError, SnapshotError
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.oracle import Oracle
from driftline.core.output import Alert, Output, Rejected, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Control, InputRecord, Malformed
from driftline.core.shard import upload
from driftline.core.shard.state import Shard
from driftline.core.shard.upload import CHUNK_MAX, SIZE_MAX, WITHIN_MS
from driftline.core.state import model_file as trained
from driftline.core.state.freeze import dump, dump_model, load
from driftline.core.state.model_file import KIND, Trained, UnfitError, parse
from tests.support.folding import step
from tests.support.schema import faults
from tests.support.small import MODELS, NOW_MS, chosen, control, event, label, small, source

KEY = KeyRing((b"the deployment's own",))
FIRST, SECOND, THIRD = (f"{NOW_MS + number}-0000000{number}" for number in range(3))


def teach(shard: Shard, count: int = 60, first: int = 0) -> None:
    rng = random.Random(first)
    for number in range(first, first + count):
        x = rng.gauss(0, 2)
        step(shard, event(number, NOW_MS + number, x, offset=number))
        step(shard, label(number, x > 0, NOW_MS + number, offset=number))


def manifest_of(pipeline: Pipeline, **changes: Any) -> Trained:
    made = Trained(
        kind=KIND,
        format=trained.FORMAT,
        pipeline=pipeline.resolved(),
        versions=versions(),
        arithmetic=arithmetic_fingerprint(),
        learned=60,
        scored=60,
        first_ms=NOW_MS,
        last_ms=NOW_MS,
        metrics={"Accuracy": 0.5},
        size_bytes=0,
        sha256="",
    )
    return structs.replace(made, **changes)


@functools.cache
def taught() -> Shard:
    shard = Shard(small(), 0)
    teach(shard)
    return shard


def model_file(pipeline: Pipeline | None = None, key: KeyRing = NO_KEYS, **changes: Any) -> bytes:
    frozen = dump_model(taught().learner.model)
    return encode_model(manifest_of(pipeline or small(), **changes), frozen, key)


def commands(content: bytes, name: str = FIRST, count: int = 3, first: int = 0) -> list[InputRecord]:
    """The load as the control topic would hold it, decoded."""
    decoder = Decoder(small())
    cut = list(parts(content, name, -(-len(content) // count)))
    return [decoder.control(source("p.control", first + number, value)) for number, value in enumerate(cut)]


def folded(shard: Shard, *records: InputRecord, oracle: Oracle | None = None) -> list[Output]:
    return [output for record in records for output in step(shard, record, oracle)]


def reasons(outputs: list[Output]) -> list[str]:
    return [one.reason for one in chosen(outputs, Rejected)]


def first_score(shard: Shard) -> Score:
    (made,) = chosen(step(shard, event("asked", NOW_MS + 10**6, 0.7, offset=10**6)), Score)
    return made  # type: ignore[no-any-return]  # just chosen


def state(shard: Shard) -> bytes:
    return digest_of({name: getattr(shard, name) for name in ("learner", "loading", "counts", "reactor")})


# -- what it is for


def test_a_shard_without_any_event_serves_its_first_one_with_the_loaded_model() -> None:
    shard = Shard(small(), 0)
    outputs = folded(shard, *commands(model_file()))
    assert reasons(outputs) == []
    (alert,) = chosen(outputs, Alert)
    assert (alert.kind, alert.state, alert.severity) == ("model_change", "resolved", "warning")
    assert alert.sentence == "An operator loaded a model trained on 60 labels into p."
    assert alert.evidence["reaction"] == "load"
    assert alert.evidence["load"] == FIRST
    assert alert.output_id == "p.control-0-2-2"
    served = first_score(shard)
    assert (served.version.generation, served.guard, served.learned) == (1, "served", 60)
    assert served.prediction == taught().learner.score((0.7, "a"), "call", Oracle())[1]
    assert served.prediction != first_score(Shard(small(), 0)).prediction
    assert shard.counts["control_load"] == 1
    assert shard.counts["load_parts"] == 3


def test_it_goes_on_learning_from_where_the_training_ended() -> None:
    shard, there = Shard(small(), 0), Shard(small(), 0)
    folded(shard, *commands(model_file()))
    teach(there)
    for one in (shard, there):
        teach(one, 50, first=500)
    assert first_score(shard).prediction == first_score(there).prediction


def test_a_shard_at_work_changes_its_model_and_keeps_what_waits() -> None:
    shard = Shard(small(), 0)
    teach(shard, 30, first=100)
    step(shard, event("waits", NOW_MS + 500, 0.1, offset=900))
    folded(shard, control("freeze"), *commands(model_file()))
    assert shard.frozen
    assert shard.learner.version.generation == 1
    assert shard.learner.learned == 30
    assert shard.counts["joined"] == 30
    (outcome,) = step(shard, label("waits", True, NOW_MS + 600, offset=900))
    assert outcome.version.generation == 0  # type: ignore[union-attr]  # the one that served it


def test_the_loaded_model_is_its_own_last_good_copy() -> None:
    shard = Shard(small(), 0)
    folded(shard, *commands(model_file()))
    before = first_score(shard).prediction
    shard.learner.fall_back()
    (made,) = chosen(step(shard, event("again", NOW_MS + 2 * 10**6, 0.7, offset=2 * 10**6)), Score)
    assert (made.prediction, made.version.generation, made.learned) == (before, 2, 60)


def test_a_background_model_is_forgotten() -> None:
    shard = Shard(small(drift={"error": {"detector": "ADWIN()", "warning": "ADWIN(delta=0.3)", "reaction": "swap"}}), 0)
    shard.reactor.background = object()  # type: ignore[assignment]  # whatever it is
    content = encode_model(manifest_of(shard.pipeline), dump_model(taught().learner.model), NO_KEYS)
    assert reasons(folded(shard, *commands(content))) == []
    assert shard.reactor.background is None


@pytest.mark.parametrize(
    "content",
    [b'{"kind": "\xff"}\nx', b"\xff\nx", b'{"\xff": 1}\nx', b"[" * 100_000 + b"\nx", b"\nx", b"", b"\xff" * 10],
)
def test_a_file_that_is_no_text_is_refused(content: bytes) -> None:
    """Anyone who may write to the control topic ended the worker with it, at each start."""
    shard = Shard(small(), 0)
    value = next(iter(parts(content or b"?", FIRST, 1_000_000)))
    made = folded(shard, Decoder(small()).control(source("p.control", 0, value)))
    assert reasons(made) == ["load_refused"]
    with pytest.raises(UnfitError, match="not a model file"):
        parse(content)


# -- whole, and of one load


def test_parts_may_come_in_any_order_and_the_one_that_makes_it_whole_switches() -> None:
    content = model_file()
    for order in permutations(range(4)):
        shard = Shard(small(), 0)
        cut = commands(content, count=4)
        for place, number in enumerate(order):
            outputs = folded(shard, cut[number])
            assert len(chosen(outputs, Alert)) == (place == 3)
            assert shard.learner.generation == (place == 3)
        assert shard.loading.progress is None


def test_a_part_that_is_repeated_counts_once() -> None:
    shard, cut = Shard(small(), 0), commands(model_file())
    outputs = folded(shard, cut[0], cut[0], cut[1], cut[0], cut[1], cut[2])
    assert reasons(outputs) == []
    assert shard.learner.generation == 1
    assert reasons(folded(shard, cut[2])) == ["load_over"]
    assert shard.learner.generation == 1


def test_of_two_operators_at_once_the_one_who_began_last_wins_on_every_shard() -> None:
    """However their parts meet: the model that serves in the end is the same."""
    one, other = commands(model_file(), FIRST), commands(model_file(learned=61), SECOND)
    count = len(one) + len(other)
    for first in itertools.combinations(range(count), len(one)):  # every order in which their parts may meet
        shard = Shard(small(), 0)
        a, b = iter(one), iter(other)
        outputs: list[Output] = []
        for place in range(count):
            outputs += folded(shard, next(a if place in first else b))
        assert shard.loading.load == SECOND
        last = chosen(outputs, Alert)[-1]
        assert last.evidence["learned"] == 61
        assert set(reasons(outputs)) <= {"load_over"}


def test_a_second_try_after_a_sender_that_died_halfway() -> None:
    shard = Shard(small(), 0)
    folded(shard, *commands(model_file(), FIRST)[:2])
    assert shard.loading.progress == (2, 3)
    outputs = folded(shard, *commands(model_file(), SECOND))
    assert (reasons(outputs), shard.learner.generation) == ([], 1)
    assert shard.counts["load_superseded"] == 1
    assert reasons(folded(shard, commands(model_file(), FIRST)[2])) == ["load_over"]
    assert shard.learner.generation == 1


def test_a_load_that_never_comes_whole_is_given_up() -> None:
    shard = Shard(small(), 0)
    cut = commands(model_file())
    folded(shard, cut[0])  # before time has begun: the wait is counted from then on
    step(shard, event("first", NOW_MS))
    assert shard.loading.deadline_ms == NOW_MS + WITHIN_MS
    assert (shard.next_deadline_ms or 0) <= NOW_MS + WITHIN_MS
    before = chosen(step(shard, event("before", NOW_MS + WITHIN_MS - 1, offset=1)), Alert)
    assert shard.loading.progress == (1, 3)
    after = chosen(step(shard, event("after", NOW_MS + WITHIN_MS, offset=2)), Alert)
    told = [one.sentence for one in after if one.kind == "model_change"]
    assert told == [
        "Loading a model into p was abandoned because parts of it did not arrive; the current model stays. "
        "Load it again."
    ]
    assert not [one for one in before if one.kind == "model_change"]
    assert shard.counts["load_given_up"] == 1
    assert reasons(folded(shard, *cut[1:])) == ["load_over", "load_over"]
    assert shard.learner.generation == 0


def test_a_reset_forgets_what_was_loaded_even_a_name_from_the_future() -> None:
    shard = Shard(small(), 0)
    folded(shard, commands(model_file(), "9999999999999-00000000")[0])
    assert reasons(folded(shard, *commands(model_file()))) == ["load_over"] * 3
    folded(shard, control("reset"))
    assert reasons(folded(shard, *commands(model_file()))) == []
    assert shard.learner.generation == 2


@pytest.mark.parametrize("where", [0, 1000, -1])
def test_a_part_that_was_changed_is_found_out(where: int) -> None:
    content = bytearray(model_file())
    cut = commands(bytes(content))
    victim = cut[1]
    assert isinstance(victim, Control)
    assert victim.chunk is not None
    changed = bytearray(victim.chunk.content)
    changed[where] ^= 1
    cut[1] = structs.replace(victim, chunk=structs.replace(victim.chunk, content=bytes(changed)))
    shard = Shard(small(), 0)
    assert reasons(folded(shard, *cut)) == ["load_damaged"]
    assert (shard.learner.generation, shard.loading.progress) == (0, None)
    assert reasons(folded(shard, *commands(bytes(content), SECOND))) == []


def test_parts_of_two_files_under_one_name_never_meet() -> None:
    one, other = commands(model_file()), commands(model_file(learned=61))
    shard = Shard(small(), 0)
    outputs = folded(shard, one[0], other[1], one[1], other[2], one[2])
    assert reasons(outputs) == ["load_mixed", "load_mixed"]
    assert chosen(outputs, Alert)[0].evidence["learned"] == 60
    shard = Shard(small(), 0)
    same = one[0]
    assert isinstance(same, Control)
    assert same.chunk is not None
    false = structs.replace(same, chunk=structs.replace(same.chunk, content=same.chunk.content[::-1]))
    assert reasons(folded(shard, same, false, *one[1:])) == ["load_mixed"]
    assert shard.learner.generation == 1


def test_more_bytes_than_were_said_are_not_kept() -> None:
    shard = Shard(small(), 0)
    (first, *_) = commands(model_file(), count=3)
    assert isinstance(first, Control)
    assert first.chunk is not None
    cut = [structs.replace(first, chunk=structs.replace(first.chunk, number=number)) for number in range(3)]
    longer = structs.replace(cut[1], chunk=structs.replace(cut[1].chunk, content=b"x" * CHUNK_MAX))  # type: ignore[type-var]
    assert reasons(folded(shard, cut[0], longer)) == ["load_damaged"]
    assert shard.loading.progress is None


# -- what is refused


class Gadget:
    """Asks for a call when it is read."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def packed(frozen: bytes, **changes: Any) -> bytes:
    return encode_model(manifest_of(small(), **changes), frozen, NO_KEYS)


def other_pipelines() -> list[tuple[str, Pipeline]]:
    seeded = small(seed=7)
    turned = small(event={"features": {"word": {"type": "string", "missing": "none"}, "x": "number"}})
    return [
        ("model", small(model=MODELS["binary"].replace("LogisticRegression()", "LogisticRegression(l2=0.1)"))),
        ("seed", seeded),
        ("event.features", turned),
        ("label.positive", small(label={"positive": 1})),
    ]


@pytest.mark.parametrize(("key", "other"), other_pipelines())
def test_a_model_of_another_pipeline(key: str, other: Pipeline) -> None:
    shard = Shard(small(), 0)
    (rejected,) = chosen(folded(shard, *commands(model_file(other))), Rejected)
    assert rejected.reason == "load_refused"
    assert key in rejected.detail
    assert "differ; train it with the worker's" in rejected.detail
    assert shard.learner.generation == 0


def test_a_pipeline_that_differs_in_what_a_model_does_not_depend_on() -> None:
    shard = Shard(small(), 0)
    other = small(metrics=["F1"], decision={"threshold": 0.9}, snapshot={"every_records": 3})
    assert reasons(folded(shard, *commands(model_file(other)))) == []
    assert shard.learner.generation == 1


def mangled(content: bytes, **changes: Any) -> bytes:
    """The file with another manifest."""
    line, _, frozen = content.partition(b"\n")
    document = {**msgspec.json.decode(line), **changes}
    return msgspec.json.encode(document) + b"\n" + frozen


REFUSED: list[tuple[str, bytes, str]] = [
    ("no model file", b"PK\x03\x04 an archive", "not a model file"),
    ("another JSON", b'{"kind": "letter"}\nhello', "not a model file"),
    ("deep JSON", b"[" * 100_000, "not a model file"),
    ("of the future", mangled(model_file(), format=2), "has format 2, this version reads 1"),
    ("half a manifest", mangled(model_file(), versions=7), "manifest cannot be read"),
    ("too many labels", mangled(model_file(), learned=-1), "manifest cannot be read"),
    ("pipeline of nothing", mangled(model_file(), pipeline={}), "pipeline cannot be read"),
    ("another River", model_file(versions={**versions(), "river": "0.1.0"}), "made by River 0.1.0"),
    ("another Python", model_file(versions={**versions(), "python": "2.7.18"}), "made by Python 2.7.18"),
    ("cut short", model_file()[:-1], "damaged"),
    ("one bit", model_file()[:-9] + b"\x00" + model_file()[-8:], "damaged"),
    ("a call of the system", packed(pickle.dumps(Gadget())), "not on the allowlist"),
    ("no pickle", packed(b"not a pickle"), "cannot be read"),
    ("a number", packed(pickle.dumps(7)), "is a int"),
    ("another model", packed(dump_model(Shard(small("multiclass"), 0).learner.model)), "does not make"),
]


@pytest.mark.parametrize(("name", "content", "says"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_a_file_that_cannot_be_put_to_work_is_rejected_and_the_model_stays(
    name: str, content: bytes, says: str
) -> None:
    shard = Shard(small(), 0)
    teach(shard, 20)
    before = digest_of(shard.learner)
    (rejected,) = chosen(folded(shard, *commands(content)), Rejected)
    assert rejected.reason == "load_refused"
    assert says in rejected.detail
    assert digest_of(shard.learner) == before
    assert shard.counts["rejected_load_refused"] == 1
    assert "control_load" not in shard.counts


def test_releases_of_numpy_and_the_app_may_differ() -> None:
    shard = Shard(small(), 0)
    content = model_file(versions={**versions(), "numpy": "2.0.0", "app": "0.0"})
    assert reasons(folded(shard, *commands(content))) == []


def test_with_a_key_only_what_is_signed_with_it_is_loaded() -> None:
    signed = model_file(key=KEY)
    assert refusal(signed, KEY) is None
    guarded = Oracle(None, lambda content: refusal(content, KEY))
    for wrong in (model_file(), model_file(key=KeyRing((b"another deployment's",))), mangled(signed, learned=61)):
        assert "not signed with a key of this deployment" in (refusal(wrong, KEY) or "")
        shard = Shard(small(), 0)
        assert reasons(folded(shard, *commands(wrong), oracle=guarded)) == ["load_refused"]
    assert reasons(folded(Shard(small(), 0), *commands(signed), oracle=guarded)) == []


# -- replays


def test_a_replay_refuses_what_the_journal_names_and_nothing_else() -> None:
    """Key, versions and pipeline had their say when the part was folded first: a replay may have others."""
    wrong = model_file(versions={**versions(), "river": "0.1.0"})
    live = Shard(small(), 0)
    judged = Oracle()
    outputs = folded(live, *commands(wrong), oracle=judged)
    assert set(judged.found) == {f"load {FIRST}"}
    again, journaled = Shard(small(), 0), Oracle(judged.found)
    assert folded(again, *commands(wrong), oracle=journaled) == outputs
    assert journaled.found == judged.found
    assert state(again) == state(live)
    accepted = Shard(small(), 0)
    later = Oracle({}, lambda content: "a key that came later")
    assert reasons(folded(accepted, *commands(wrong), oracle=later)) == []
    assert accepted.learner.generation == 1


def test_a_replay_that_cannot_read_what_was_loaded_stops() -> None:
    shard = Shard(small(), 0)
    with pytest.raises(RecoveryError, match="cannot be read here .*--reset-state"):
        folded(shard, *commands(packed(pickle.dumps(Gadget()))), oracle=Oracle({}))


def test_a_snapshot_between_the_parts() -> None:
    cut = commands(model_file())
    for edge in range(len(cut) + 1):
        straight, broken = Shard(small(), 0), Shard(small(), 0)
        for one in (straight, broken):
            teach(one, 10)
        folded(straight, *cut)
        folded(broken, *cut[:edge])
        broken = load(broken.pipeline, 0, dump(broken))
        folded(broken, *cut[edge:])
        for one in (straight, broken):
            teach(one, 10, first=200)
        assert state(load(broken.pipeline, 0, dump(broken))) == state(load(straight.pipeline, 0, dump(straight)))


def test_a_poisoned_last_good_copy_within_a_snapshot_is_refused() -> None:
    """It is a pickle within the pickle, and would be read without the allowlist when it is needed."""
    shard = Shard(small(), 0)
    shard.learner.load(shard.learner.model, pickle.dumps(Gadget()), 0)
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        load(shard.pipeline, 0, dump(shard))
    shard.learner.load(shard.learner.model, 7, 0)  # type: ignore[arg-type]  # as a forger might
    with pytest.raises(SnapshotError, match="holds a int"):
        load(shard.pipeline, 0, dump(shard))


# -- the commands


def test_the_commands_have_their_schema_and_their_bounds() -> None:
    assert "load" in COMMANDS
    content = model_file()
    for value in parts(content, FIRST, 700):
        assert not faults("control", msgspec.json.decode(value))
    made = [one.chunk for one in commands(content, count=5) if isinstance(one, Control) and one.chunk]
    assert [one.number for one in made] == list(range(5))
    assert b"".join(one.content for one in made) == content
    assert {one.sha256 for one in made} == {hashlib.sha256(content).hexdigest()}
    (alone,) = commands(b"x", count=1)
    assert isinstance(alone, Control)


def test_a_part_fits_whatever_the_pipeline_allows_its_records() -> None:
    decoder = Decoder(small(limits={"record_bytes_max": 1_000}))
    (value, *_) = parts(bytes(CHUNK_MAX + 1), FIRST, CHUNK_MAX)
    assert isinstance(decoder.control(source("p.control", 0, value)), Control)
    assert not faults("control", msgspec.json.decode(value))
    assert isinstance(decoder.event(source("p.events", 0, value)), Malformed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size_bytes": SIZE_MAX + 1}, "load_too_large"),
        ({"size_bytes": 1e3}, "control_invalid"),
        ({"part": 3}, "control_invalid"),
        ({"part": -1}, "control_invalid"),
        ({"part": True}, "control_invalid"),
        ({"parts": 10**9}, "control_invalid"),
        ({"parts": upload.CHUNKS_MAX + 1}, "control_invalid"),
        ({"load": "soon"}, "control_invalid"),
        ({"load": 7}, "control_invalid"),
        ({"load": f"{FIRST}\n"}, "control_invalid"),
        ({"sha256": "ab"}, "control_invalid"),
        ({"content": ""}, "control_invalid"),
        ({"content": "?"}, "control_invalid"),
        ({"content": "\u00e4\u00e4\u00e4\u00e4"}, "control_invalid"),
        ({"content": None}, "control_invalid"),
        ({"content": "AAAA" * (CHUNK_MAX // 3 + 1)}, "control_invalid"),
    ],
)
def test_a_command_that_is_no_part(changes: dict[str, Any], reason: str) -> None:
    (value, *_) = parts(bytes(100_000), FIRST, 40_000)
    whole = msgspec.json.decode(value)
    assert isinstance(Decoder(small()).control(source("p.control", 0, value)), Control)
    made = Decoder(small()).control(source("p.control", 0, msgspec.json.encode({**whole, **changes})))
    assert isinstance(made, Malformed)
    assert made.reason == reason


def test_a_file_says_what_it_is() -> None:
    content = model_file()
    manifest, frozen = parse(content)
    assert (manifest.learned, manifest.size_bytes) == (60, len(frozen))
    assert manifest.pipeline == small().resolved()
    with pytest.raises(UnfitError):
        parse(frozen)
