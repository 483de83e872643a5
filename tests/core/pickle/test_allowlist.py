"""What a state may hold, attacked: every admitted class and function with hostile states and calls, plain and nested.

All of it runs in a child, under an audit hook that cannot be taken out: whatever compiles, executes, imports, opens,
connects or starts something while bytes are read ends the child with what it was.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import river

from driftline.core.error import SnapshotError
from driftline.core.pickle.allowlist import OWN, admitted_for, common
from driftline.core.pickle.reader import Thaw
from driftline.core.pickle.river_classes import RIVER
from tests.support.small import small

TEXT, MARK = pickle.SHORT_BINUNICODE, pickle.MARK


def text(value: str) -> bytes:
    return TEXT + bytes([len(value.encode())]) + value.encode()


def name(module: str, qualified: str) -> bytes:
    """The instructions that push what a name stands for."""
    return text(module) + text(qualified) + pickle.STACK_GLOBAL


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def plain(value: object) -> bytes:
    """The instructions that push a plain value, without its frame."""
    made = pickle.dumps(value, protocol=4)
    return made[11:-1] if made[2:3] == pickle.FRAME else made[2:-1]


def whole(*instructions: bytes) -> bytes:
    return b"\x80\x05" + b"".join(instructions) + b"."


def nested(frozen: bytes) -> Iterator[bytes]:
    """Bytes alone, and where a member, a key, and the function of a partial or a default are expected."""
    inner = frozen[2:-1]
    yield frozen
    yield whole(b"]", inner, b"a")
    yield whole(b"}", plain("x"), inner, b"s")
    yield whole(b"}", inner, plain(1), b"s")
    yield whole(call(name("functools", "partial"), inner))
    yield whole(call(name("collections", "defaultdict"), inner))
    yield whole(name("river.stats.mean", "Mean"), b")\x81", b"}", plain("n"), inner, b"s", b"b")
    yield whole(name("river.stats.mean", "Mean"), b")\x81", inner, b"b")
    yield whole(name("driftline.core.record", "Source"), MARK, inner, pickle.TUPLE, pickle.REDUCE)


def read(frozen: bytes) -> Any:
    """What `freeze` makes of bytes: an object, or nothing but an exception."""
    try:
        return Thaw(frozen, common(), "model").read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - hostile bytes raise anything, panics of Rust among it
        return error


# -- known gadgets

CODE = "__import__('os').system('true')"
GADGETS = {
    "os.system": call(name("os", "system"), plain("true")),
    "posix.system": call(name("posix", "system"), plain("true")),
    "subprocess": call(name("subprocess", "Popen"), plain(["true"])),
    "eval": call(name("builtins", "eval"), plain(CODE)),
    "exec": call(name("builtins", "exec"), plain(CODE)),
    "compile": call(name("builtins", "compile"), plain("1"), plain("f"), plain("eval")),
    "import": call(name("builtins", "__import__"), plain("antigravity")),
    "open": call(name("builtins", "open"), plain("/etc/passwd")),
    "import of a module by a name": call(name("antigravity", "x")),
    "map": call(name("builtins", "map"), name("builtins", "str"), plain([1])),
    "itertools.count": call(name("itertools", "count")),
    "attrgetter": call(name("operator", "attrgetter"), plain("__class__.__base__")),
    "methodcaller": call(name("operator", "methodcaller"), plain("system"), plain("true")),
    "reconstructor": call(
        name("copyreg", "_reconstructor"), name("builtins", "object"), name("builtins", "object"), b"N"
    ),
    "encode": call(name("_codecs", "encode"), plain("x"), plain("zip")),
    "dotted": name("river.base.base", "inspect.sys.modules"),
    "dotted own": name("driftline.core.model.learner", "pickle.loads"),
    "builder": call(name("driftline.core.river.building", "call_factory"), plain("os"), plain("getcwd"), plain({})),
    "learner": call(name("driftline.core.model.learner", "Learner"), plain(None)),
    "scipy": name("scipy.stats._continuous_distns", "norm_gen"),
    "scipy frozen": name("scipy.stats._distn_infrastructure", "rv_continuous_frozen"),
    "memmap": call(name("numpy", "memmap"), plain("/tmp/x")),
    "f2py": call(name("numpy.f2py.capi_maps", "getinit"), plain({}), plain({})),
    "numpy testing": call(name("numpy.testing._private.utils", "runstring"), plain(CODE), plain({})),
    "object array": call(
        name("numpy._core.numeric", "_frombuffer"),
        plain(b"\x00" * 8),
        call(name("numpy", "dtype"), plain("O8"), plain(False), plain(True)),
        plain((1,)),
        plain("C"),
    ),
    "stream": call(name("river.stream.cache", "Cache"), plain("/tmp")),
    "dataset": call(name("river.datasets.phishing", "Phishing")),
    "function transformer": name("river.compose.func", "FuncTransformer"),
    "bound method": call(name("builtins", "getattr"), plain("text"), plain("format")),
    "class of a thing": call(name("builtins", "getattr"), name("river.stats.mean", "Mean"), plain("__subclasses__")),
    "a state for a class": name("river.stats.mean", "Mean") + b"}" + plain("get") + plain(1) + b"sb",
    "slots of a class": name("river.stats.mean", "Mean") + b"N}" + plain("get") + plain(1) + b"s\x86b",
    "a state for a function": name("river.utils.math", "minkowski_distance") + plain((None, {"__code__": 1})) + b"b",
    "a reduction of its own": name("river.stats.mean", "Mean") + b")\x81" + plain({"__reduce__": 1}) + b"b",
    "a module of its own": name("river.stats.mean", "Mean") + b")\x81" + plain({"__module__": "antigravity"}) + b"b",
    "a partial's own": call(name("functools", "partial"), name("builtins", "str"))
    + MARK
    + name("builtins", "str")
    + plain(())
    + plain({})
    + plain({"__reduce__": 1})
    + pickle.TUPLE
    + pickle.BUILD,
    "persistent": plain("id") + b"Q",
    "an extension": b"\x82\x01",
    "an instance": b"(ios\nsystem\n",
    "an old global": b"cos\nsystem\n" + plain(("true",)) + b"R",
    "a method of a type": call(name("builtins", "getattr"), name("builtins", "type"), plain("__call__")),
    "an evil pattern": call(name("builtins", "type"), plain("X"), plain(()), plain({})),
}


@pytest.mark.parametrize("gadget", GADGETS)
def test_a_known_gadget_is_refused(gadget: str) -> None:
    for frozen in nested(whole(GADGETS[gadget])):
        with pytest.raises(SnapshotError, match="not on the allowlist|never written"):
            Thaw(frozen, common(), "model").read()


# -- what has no end, and what is larger than its bytes

LONG = pickle.LONG1 + b"\x06" + (10**12).to_bytes(6, "little")
DTYPE = call(name("numpy", "dtype"), plain("f8"), plain(False), plain(True))
RECONSTRUCT = name("numpy._core.multiarray", "_reconstruct")


def partly(function: bytes, argument: bytes, keywords: bytes) -> bytes:
    """A partial of a function, with its state."""
    made = call(name("functools", "partial"), function)
    return made + MARK + function + MARK + argument + pickle.TUPLE + keywords + b"N" + pickle.TUPLE + pickle.BUILD


BOMBS = {
    "an endless deque": call(name("collections", "deque"), call(name("itertools", "count")), plain(0)),
    "a long range": call(name("builtins", "range"), plain(0), LONG, plain(1)),
    "a deque of a range": call(
        name("collections", "deque"), call(name("builtins", "range"), plain(0), plain(10), plain(1)), plain(0)
    ),
    "bytes of a size": call(name("builtins", "bytes"), LONG),
    "a bytearray of a size": call(name("builtins", "bytearray"), LONG),
    "a list of a dict": call(name("builtins", "list"), plain({})),
    "a tuple of a range": call(name("builtins", "tuple"), plain([])),
    "an array of a shape": call(RECONSTRUCT, name("numpy", "ndarray"), b"(" + LONG + b"t", plain(b"b")),
    "an array's state": call(RECONSTRUCT, name("numpy", "ndarray"), plain((0,)), plain(b"b"))
    + MARK + plain(1) + b"(" + LONG + b"t" + DTYPE + plain(False) + plain(b"") + pickle.TUPLE + pickle.BUILD,
    "a buffer of a shape": call(
        name("numpy._core.numeric", "_frombuffer"), plain(b""), DTYPE, b"(" + LONG + LONG + b"t", plain("C")
    ),
    "a wide text type": call(name("numpy", "dtype"), plain("U1000000000"), plain(False), plain(True)),
    "a type with other flags": DTYPE + plain((3, "<", None, None, None, -1, -1, 63)) + b"b",
    "a type with another size": DTYPE + plain((3, "<", None, None, None, 1 << 30, 1, 0)) + b"b",
    "ones without end": call(name("functools", "partial"), name("numpy", "ones"))
    + MARK + name("numpy", "ones") + b"(" + LONG + b"t}N" + pickle.TUPLE + pickle.BUILD,
    "ones by a keyword": partly(name("numpy", "ones"), b"", b"}" + text("shape") + LONG + b"s"),
    "ones of a wide type": partly(name("numpy", "ones"), plain(9), plain({"dtype": "U100000000"})),
    "an array of a wide type": partly(name("numpy", "array"), plain([1]), plain({"dtype": "U100000000"})),
    "an array of lists in lists": partly(
        name("numpy", "array"), b"]N\x85\x94" + b"".join(b"](h%ch%ce\x94" % (n, n) for n in range(30)), b"}"
    ),
    "bytes of a size, later": partly(name("builtins", "bytes"), LONG, b"}"),
    "latents of a shape": partly(
        name("river.optim.initializers", "Normal") + b")\x81", b"", b"}" + text("shape") + LONG + b"s"
    ),
    "an array of nothings": call(RECONSTRUCT, name("numpy", "ndarray"), plain((0,)), plain(b"b"))
    + MARK + plain(1) + plain((2**40,)) + call(name("numpy", "dtype"), plain("S0"), plain(False), plain(True))
    + plain(False) + plain(b"") + pickle.TUPLE + pickle.BUILD,
    "a dict that is counted again and again": plain(dict.fromkeys(range(30_000))) + b"0"
    + name("collections", "Counter") + b"\x94" + b"](" + b"h\x01h\x00\x85R" * 3_000 + b"e",
    "a list that is an array again and again": b"](" + b"N" * 30_000 + b"e\x940" + RECONSTRUCT + b"\x940"
    + name("numpy", "ndarray") + b"\x940" + call(name("numpy", "dtype"), plain("O"), plain(False), plain(True))
    + b"\x940](" + (b"h\x01h\x02K\x00\x85C\x01b\x87R(K\x01J\x30\x75\x00\x00\x85h\x04\x89h\x00tb") * 3_000
    + b"e",
    "attributes that are set again and again": name("river.stats.mean", "Mean") + b")\x81\x940"
    + plain({f"n{n}": 1 for n in range(30_000)}) + b"0h\x00" + b"h\x01b" * 10_000,
    "empty windows": name("river._river_rust.stats", "RsRollingIQR") + b"\x94"
    + b"G" + struct.pack(">d", 0.1) + b"G" + struct.pack(">d", 0.9) + b"J\x40\x42\x0f\x00\x87\x94]("
    + b"h\x00h\x01\x81" * 20_000 + b"e",
    "empty sets": b"](" + b"\x8f" * 100_000 + b"e",
    "random generators": name("random", "Random") + b"\x94](" + b"h\x00)R" * 10_000 + b"e",
    "a long fraction": call(name("fractions", "Fraction"), plain("1e1000000000")),
    "a huge text": b"\x8d" + struct.pack("<Q", 1 << 60) + b"x",
    "huge bytes": b"\x8e" + struct.pack("<Q", 1 << 60) + b"x",
    "a huge bytearray": b"\x96" + struct.pack("<Q", 1 << 60) + b"x",
    "a huge number": b"\x8b" + struct.pack("<I", 1 << 31) + b"x",
    "a far memo": b"Nr" + struct.pack("<I", 1 << 31),
    "a far recall": b"Nj" + struct.pack("<I", 1 << 31),
    "tuples in tuples": b"N\x85\x94" + b"".join(b"h%c" % n + b"h%c\x86\x94" % n for n in range(60)),
    "tuples as a key": b"}" + b"N\x85\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(18)) + b"Ns",
    "a frozen set of them": b"(" + b"N\x85\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(18)) + b"\x91",
    "a random state beyond": call(name("random", "Random")) + plain((3, (1,) * 624 + (10**6,), None)) + b"b",
    "a window without bound": name("river._river_rust.stats", "RsRollingIQR") + MARK + plain(0.5) + LONG + b"t\x81",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_is_larger_than_its_bytes_is_refused_at_once(bomb: str) -> None:
    for frozen in nested(whole(BOMBS[bomb])):
        begun_s = time.process_time()
        assert isinstance(read(frozen), BaseException)
        assert time.process_time() - begun_s < 5


def test_a_generator_that_would_read_beyond_its_memory_is_refused() -> None:
    state = pickle.dumps(np.random.RandomState(3), protocol=5)
    assert isinstance(read(state), np.random.RandomState)
    word = pickle.BININT2 + struct.pack("<H", 624)
    assert state.count(word) >= 3
    for place in range(len(state)):
        if state[place : place + 3] == word:
            hostile = state[:place] + pickle.BININT2 + struct.pack("<H", 60_000) + state[place + 3 :]
            assert isinstance(read(hostile), BaseException)


def test_keys_that_collide_are_refused() -> None:
    """Tuples whose hashes are equal, of which a dict of a million would take for days."""
    whole_numbers = [number * (2**61 - 1) for number in range(1, 8)]
    keys = [(a, b, c) for a in whole_numbers for b in whole_numbers for c in whole_numbers]
    assert len({hash(key) for key in keys}) == 1
    with pytest.raises(SnapshotError, match="keys of one hash"):
        Thaw(pickle.dumps(dict.fromkeys(keys)), common(), "model").read()
    with pytest.raises(SnapshotError, match="int as a key"):
        Thaw(pickle.dumps({number * (2**61 - 1): None for number in range(100)}), common(), "model").read()


def test_the_time_of_a_reading_grows_with_its_bytes_only() -> None:
    """Deep lists, long memos, and the same object over and over."""
    for instructions in (
        b"]" * 200_000,
        b"]" + b"\x94" * 200_000,
        b"](" + b"N" * 200_000 + b"e",
        b"}\x94(" + b"h\x00" * 2,
    ):
        begun_s = time.process_time()
        read(whole(instructions))
        assert time.process_time() - begun_s < 5


DEEP = 400_000
CHAINS = {
    "records": name("driftline.core.output", "Prediction") + b"\x94" + b"h\x00" * (DEEP - 1) + b"N" + b"\x85R" * DEEP,
    "dicts": name("collections", "defaultdict") + b"\x940" + (b"h\x00N\x85R" + text("a")) * DEEP + b"N" + b"s" * DEEP,
    "deques": name("collections", "deque") + b"\x94" + b"h\x00)R" * DEEP + b"a" * (DEEP - 1),
}
_FREED = (
    "import sys; from tests.core.pickle import test_allowlist as t; print(type(t.read(t.whole(t.CHAINS[sys.argv[1]]))))"
)


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS)
def test_a_long_chain_is_refused_and_taken_apart(chain: str) -> None:
    """Of some classes Python frees a chain on the C stack: a long one ended the process."""
    done = subprocess.run(
        [sys.executable, "-c", _FREED, chain], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert "SnapshotError" in done.stdout


def test_a_tree_that_is_below_itself_is_refused() -> None:
    """Whoever went down it would never come to its end."""
    branch = name("river.tree.nodes.branch", "NumericBinaryBranch") + b")\x81\x94"
    ring = whole(branch, b"}", text("children"), b"](h\x00h\x00e", b"sb")
    assert isinstance(read(ring), SnapshotError)
    straight = whole(branch, b"}", text("children"), b"](NNe", b"sb")
    assert type(read(straight)).__name__ == "NumericBinaryBranch"


# -- every admitted class, under the hook

_CHILD = """
import sys
from tests.core.pickle import test_allowlist as t
hook = t.Hook()
hostile = [t.whole(made) for table in (t.GADGETS, t.BOMBS) for made in table.values()]
trials = [frozen for made in hostile for frozen in t.nested(made)]
trials += list(t.hostile())
t.kinds()
sys.addaudithook(hook)
for number, frozen in enumerate(trials):
    hook.told = number
    t.read(frozen)
    if hook.seen:
        print(f"trial {number}: {hook.seen}: {frozen[:200]!r}")
        sys.stdout.flush()
        import os
        os._exit(1)
print(f"{len(t.kinds())} classes and functions, {len(trials)} hostile states")
"""


class Hook:
    """Notes every event of a kind that reading must never cause."""

    FORBIDDEN = ("exec", "compile", "import", "open", "socket.", "subprocess.", "os.", "shutil.", "ctypes.", "marshal.")

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.told = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(self.FORBIDDEN) and event != "os.urandom":
            self.seen.append(f"{event} {str(arguments)[:100]}")


def kinds() -> dict[tuple[str, str], Any]:
    return common().names


def hostile() -> Iterator[bytes]:
    """Of every admitted name: called, made and filled with what it does not expect."""
    call_of_code = call(name("builtins", "getattr"), name("builtins", "str"), plain("lower"))
    values = [
        plain(None), plain(10**9), plain(-1), plain(CODE), plain(b"\xff" * 64), plain({}), plain([CODE]),
        plain(float("nan")), plain((None, {"x": CODE})), plain((CODE,) * 3), plain({"__setstate__": CODE}),
        plain({"__class__": CODE, "__dict__": {}}), plain({"momtype": 1, "_parse_arg_template": CODE}), call_of_code,
        plain({"_ctor_param": {"name": CODE}}), name("builtins", "str"), plain((CODE, {}, (), {})),
        plain((3, "<", None, (CODE,), {CODE: 1}, 1 << 40, 1, 63)), name("functools", "partial"),
    ]  # fmt: skip
    for module, qualified in kinds():
        thing = name(module, qualified)
        made = thing + b")\x81"
        for value in values:
            yield whole(call(thing, value))
            yield whole(call(thing, value, value, value))
            yield whole(thing + MARK + value + b"t\x81")
            yield whole(made + value + b"b")
            yield whole(call(thing) + value + b"b")
            yield whole(thing + value + b"b")
            yield whole(made + value + value + b"s")
            yield whole(made + value + b"a")
            yield whole(made + b"}" + plain("x") + value + b"sb")
            yield whole(
                call(name("functools", "partial"), thing) + MARK + thing + plain(()) + plain({}) + value + b"tb"
            )
            yield whole(call(name("collections", "defaultdict"), thing) + value + value + b"s")


@pytest.mark.slow
def test_no_admitted_class_runs_code_whatever_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD], capture_output=True, text=True, timeout=300, check=False
    )
    with capsys.disabled():
        print(f"\n{done.stdout.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert "hostile states" in done.stdout


@pytest.mark.slow
def test_the_hook_sees_what_python_s_own_reader_would_do() -> None:
    """Or the test above could not fail."""
    text_of = _CHILD.replace("t.read(frozen)\n    if", "t.unsafe(frozen)\n    if")
    assert text_of != _CHILD
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text_of], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1, done.stderr[-2_000:]
    assert "trial 0" in done.stdout


def unsafe(frozen: bytes) -> None:
    """What the allowlist is there against."""
    pickle.loads(frozen)


# -- whole


def _defined(module: str) -> Iterator[tuple[str, type]]:
    for qualified, kind in vars(importlib.import_module(module)).items():
        if inspect.isclass(kind) and kind.__module__ == module and kind.__qualname__ == qualified:
            yield qualified, kind


NO_STATE = frozenset({"Curve", "Detector", "ModelRaisedError", "Notes", "Refused", "Segment", "SegmentState", "View"})
NO_STATE |= {"Cause", "Found", "Known", "Timing", "Ranked", "ShortWay", "_Conditions"}
NO_STATE |= {"Ahead", "Asked", "Batch", "Weighed", "Forecast", "Judged", "Observed", "Several", "Taught"}
NO_STATE |= {"Plan", "_Priced", "_Terms", "Priced"}  # of KPIs: what the pipeline says, and outputs
NO_STATE |= {
    "Decided",
    "Review",
    "Ruling",
    "Standing",
    "Culprit",
    "Draft",
    "Distribution",
}  # of reviews, alerts, and forecasts that are being made: outputs, a command, and a limit
"""Of the modules whose classes a state is made of, those that no state holds."""


def test_every_class_of_our_own_state_is_admitted() -> None:
    """A class that is new in one of these modules is added to `OWN`, or to `NO_STATE` above."""
    for module, names in OWN.items():
        missing = {
            qualified
            for qualified, kind in _defined(f"driftline.core.{module}")
            if not inspect.isabstract(kind) and not qualified.startswith("_Packed") and qualified != "Change"
        } - {*names.split(), *NO_STATE}
        assert not missing, (
            f"driftline.core.{module}: {sorted(missing)}: add to OWN in the allowlist or to NO_STATE here"
        )
        for one in names.split():
            assert ("driftline.core." + module, one) in kinds(), f"driftline.core.{module} has no {one}"


LEFT_OUT = {
    "compose.func": "runs what it is given",
    "compose.select": "keeps names in a set; ours stands for it",
    "drift.datasets": "reads files",
    "feature_extraction.kernel_approx": "RandomTreesEmbedding cannot be restored",
    "misc.zstd_classifier": "needs Python 3.14",
}


def test_every_class_of_the_installed_river_is_admitted_or_left_out_on_purpose() -> None:
    """So that an upgrade of River shows what is new in it."""
    closed = ("base", "bandit.datasets", "bandit.envs", "checks", "datasets", "drift.datasets", "evaluate", "stream")
    missing = []
    for found in pkgutil.walk_packages(river.__path__, "river."):
        place = found.name.removeprefix("river.")
        if place.startswith(closed) or "test_" in place or place.startswith("compat") or place in LEFT_OUT:
            continue
        for qualified, kind in _defined(found.name):
            data = issubclass(kind, BaseException) or inspect.isabstract(kind) or getattr(kind, "_is_protocol", False)
            if not data and (found.name, qualified) not in kinds():
                missing.append(f"{place}.{qualified}")
    assert missing == ["feature_extraction.vectorize.VectorizerMixin", "model_selection.bandit.BanditModelSection"]
    admitted = sum(len(names.split()) for names in RIVER.values())
    assert admitted > 400


def test_what_a_state_is_made_of_reads_no_more_than_attributes() -> None:
    """A `__setstate__` or `__reduce__` in River that was not looked at yet."""
    known = {"MaxAbsScaler", "MinMaxScaler", "StandardScaler"}
    for (module, qualified), kind in kinds().items():
        if isinstance(kind, type) and module.startswith("river.") and not module.startswith("river._river_rust"):
            own = [vars(one) for one in kind.__mro__ if one.__module__.startswith("river.")]
            assert not any("__setattr__" in names for names in own), qualified
            if any("__setstate__" in names for names in own):
                assert qualified in known, qualified


# -- the operator's own factory


class Node:
    """What a model of a user's own comes to hold as it learns."""

    def __init__(self) -> None:
        self.children: list[Node] = []


class Grown(river.base.Classifier):
    """A user's own model."""

    def __init__(self) -> None:
        self.root: Node | None = None

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        self.root = Node()
        self.root.children.append(Node())

    def predict_one(self, x: dict[Any, Any]) -> Any:  # type: ignore[override]  # River is wider
        return self.root is not None


def grown() -> Grown:
    return Grown()


def ran(*_: object) -> str:
    raise AssertionError("a function of the module of the user's model was called")


def test_of_a_user_s_own_model_the_classes_of_its_module_are_admitted_and_nothing_else() -> None:
    pipeline = small(model="tests.core.pickle.test_allowlist:grown")
    admitted = admitted_for(pipeline)
    model = Grown()
    model.learn_one({}, True)
    again = Thaw(pickle.dumps(model, protocol=5), admitted, "model").read()
    assert isinstance(again.root.children[0], Node)
    assert isinstance(read(pickle.dumps(model, protocol=5)), SnapshotError)
    for hostile_name in ("ran", "subprocess.Popen", "grown", "pickle.loads"):
        with pytest.raises(SnapshotError, match="not on the allowlist"):
            Thaw(whole(call(name(__name__, hostile_name))), admitted, "model").read()


def test_the_page_about_security_says_how_many_names_there_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"\*\*Names\.\*\* (\d+) classes and functions under (\d+) names", page)
    names = common().names
    assert tuple(map(int, said)) == (len({id(one) for one in names.values()}), len(names))


def test_the_tables_know_each_other() -> None:
    """Whatever may be filled or called has a name, so that nothing is admitted that no bytes can reach."""
    admitted = common()
    named = {id(one) for one in admitted.names.values()}
    assert set(admitted.calls) <= named | {id(kind) for kind in admitted.lists}
    assert set(admitted.news) <= named
