"""Parts of SciPy that River's modules name and most pipelines never call: loaded at their first call.

River's packages import all of their modules. Six of these name parts of SciPy that take longer to load than all the
rest together. While one of them is executed, it is given a stand-in for such a part; everyone else who imports it gets
SciPy's own. Results do not change: the functions are SciPy's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

DEFERRED = {
    "river.drift.kswin": "scipy.stats",
    "river.metrics.geometric_mean": "scipy.stats",
    "river.metrics.roc_auc": "scipy.integrate",
    "river.preprocessing.lda": "scipy.ndimage",
    "river.proba.gaussian": "scipy.stats",
    "river.tree.stochastic_gradient_tree": "scipy.stats",
}
"""Modules of River, and what of SciPy they name."""


def install() -> None:
    """For modules that are imported from now on, in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Name:
    """Stands for a function or object of a module, which is loaded once it is called or asked for an attribute."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(import_module(self._module), self._name)(*args, **options)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(import_module(self._module), self._name), attribute)


class _StandIn(ModuleType):
    """Stands for a module, and has any name that is asked for."""

    def __getattr__(self, name: str) -> _Name:
        if name.startswith("__"):  # what the import system looks for
            raise AttributeError(name)
        stand_in = self.__dict__[name] = _Name(self.__name__, name)
        return stand_in


class _Deferring(Loader):
    """Executes a module as its own loader does, with a stand-in for what it names."""

    def __init__(self, own: Loader, deferred: str) -> None:
        self._own = own
        self._deferred = deferred

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._own
        if self._deferred in sys.modules:  # nothing is saved
            self._own.exec_module(module)
            return
        stand_in = sys.modules[self._deferred] = _StandIn(self._deferred)
        try:
            self._own.exec_module(module)
        finally:
            if sys.modules.get(self._deferred) is stand_in:
                del sys.modules[self._deferred]


class _Finder(MetaPathFinder):
    """Finds the modules of the table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        deferred = DEFERRED.get(fullname)
        if deferred is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferring(spec.loader, deferred)
        return spec
