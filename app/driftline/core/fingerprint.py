"""Fingerprint of arithmetic and versions: digests are comparable only where both are the same.

glibc's and numpy's functions take different paths on CPUs with and without FMA or AVX, and the last bits differ. So the
fingerprint is not a list of CPU flags: it is a digest of what the functions that models use give on fixed arguments.
"""

from __future__ import annotations

import hashlib
import math
import platform
import struct
from collections.abc import Mapping
from functools import cache

import numpy as np
from river.__version__ import __version__ as river_version

from driftline import __version__


@cache
def arithmetic_fingerprint() -> str:
    """A digest of floating-point results on this machine, as 16 hexadecimal digits."""
    arguments = [(index * 0.618_033_988_749_894_9) % 1.0 * 20.0 + 1e-3 for index in range(512)]
    results: list[float] = []
    for x in arguments:
        results += (math.exp(-x), math.log(x), math.pow(x, 0.37), math.sin(x), math.tanh(x / 7), math.sqrt(x))
        results.append(1.0 / (1.0 + math.exp(x - 10.0)))
        results.append(math.erf(x / 9))
    grid = np.array(arguments).reshape(16, 32)
    for array in (np.exp(-grid), np.log(grid), grid @ grid.T, grid.mean(axis=0), grid.var(axis=1)):
        results += array.ravel().tolist()
    if not 5e-324 * arguments[0] + 5e-324:  # a library has made the CPU treat such numbers as zero
        results.append(0.0)
    return hashlib.blake2b(struct.pack(f"<{len(results)}d", *results), digest_size=8).hexdigest()


@cache
def versions() -> dict[str, str]:
    """The versions that a state's bits depend on."""
    return {
        "app": __version__,
        "river": river_version,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


AS_FAR_AS = {"river": 3, "python": 2, "numpy": 1}
"""How many numbers of a version decide whether a state can be read: the classes of River's models may change with any
of its releases; pickles of Python mean the same in every patch of a minor, numpy's arrays in every release of a major.
Driftline's own classes are a matter of the format (`core.state.migration`). What bits come out is another question,
which the arithmetic fingerprint answers."""


def unreadable(there: Mapping[str, str]) -> str | None:
    """Why a state that these versions made cannot be read by those of this process; None if it can.

    Args:
        there: as `versions` gave them where the state was made.
    """
    here = versions()
    for name, numbers in AS_FAR_AS.items():
        made_by = str(there.get(name, "unknown"))
        if made_by.split(".")[:numbers] != here[name].split(".")[:numbers]:
            return f"made by {NAMES[name]} {made_by:.20}, this is {NAMES[name]} {here[name]}"
    return None


def difference(there: Mapping[str, str], arithmetic: str) -> str:
    """What made a slice there and is another here, for people; empty if its bits must come out the same.

    Args:
        there, arithmetic: as an epoch or a manifest has them.
    """
    parts = [
        f"{NAMES[name]} {there.get(name, 'unknown')!s:.20} (here {version})"
        for name, version in versions().items()
        if there.get(name) != version
    ]
    if arithmetic != arithmetic_fingerprint():
        parts.append("a CPU or libraries with other floating-point arithmetic")
    return ", ".join(parts)


NAMES = {"river": "River", "python": "Python", "numpy": "numpy", "app": "Driftline"}


def readers(there: Mapping[str, str]) -> str:
    """The versions that read what these made, as text."""
    texts = []
    for name, numbers in AS_FAR_AS.items():
        given = str(there.get(name, "unknown"))[:20].split(".")
        texts.append(f"{NAMES[name]} {'.'.join(given[:numbers])}" + (".*" if len(given) > numbers else ""))
    return ", ".join(texts)
