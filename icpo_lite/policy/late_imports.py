"""Libraries that transformers imports with every model and that one process on a CPU never calls.

With a model it imports torch's compiler, its distributed tensors, scipy's optimizers: as long as
torch itself takes. Here their names are there at once, and what they name is imported at its first
use, so that whoever does use it finds what is always there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
#: With all that is in them. transformers' own are here since they call others as they are imported.
LATE = (
    COMPILER,
    "scipy.optimize",
    "sklearn",
    "torch.distributed._composable",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "transformers.distributed.expert_parallel",
    "transformers.distributed.sharding_utils",
    "transformers.distributed.tensor_parallel",
    "triton",
)
#: What the compiler notes of a function, and gives it back as it is.
_MARKS = ("allow_in_graph", "assume_constant_result")


@contextlib.contextmanager
def imported_late(names: Sequence[str] = LATE) -> Iterator[None]:
    """Inside, `import` of these modules, and from them, gives names that import at first use.

    Modules that are imported already stay as they are. The first use ends it, as leaving it does:
    whoever imports them then has them.
    """
    finder = _Finder(tuple(names))
    roomy = _AfterImport("transformers.utils.import_utils", _room_for_all)
    sys.meta_path[:0] = [finder, roomy]
    try:
        yield
    finally:
        finder.end()
        if roomy in sys.meta_path:
            sys.meta_path.remove(roomy)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Puts modules without content where those that are installed would be.

    marks: of functions, for the compiler.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names, self.made = names, list[_LateModule]()
        self.marks = list[tuple[str, Callable[..., Any]]]()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if not any(fullname == n or fullname.startswith(f"{n}.") for n in self.names):
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        spec.submodule_search_locations = found.submodule_search_locations or []
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        self.made.append(_LateModule(spec.name, self))
        return self.made[-1]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module itself is executed once a name of it is used."""

    def end(self) -> None:
        """Nothing is found late any more, and what was is forgotten."""
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        for module in self.made:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
            parent, _, name = module.__name__.rpartition(".")
            if vars(sys.modules.get(parent, module)).get(name) is module:
                delattr(sys.modules[parent], name)
        if self.marks:
            sys.meta_path.insert(0, _AfterImport(COMPILER, self._mark))

    def _mark(self, compiler: ModuleType) -> None:
        for name, fn in self.marks:
            getattr(compiler, name)(fn)


class _LateModule(ModuleType):
    """Stands where a module will, and has every name that is asked of it."""

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name)
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__ == COMPILER and name == "disable":
            return _disable
        if self.__name__ == COMPILER and name in _MARKS:
            return functools.partial(self._mark, name)
        return _Late(self.__name__, name, self._finder)

    def _mark(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        self._finder.marks.append((name, fn))
        return fn


class _Late:
    """A name of a module that is not imported yet: a function to call, a class to compare with."""

    def __init__(self, module: str, name: str, finder: _Finder) -> None:
        self._module, self._name, self._finder = module, name, finder

    def _real(self) -> Any:
        self._finder.end()
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        # There is no instance of a class whose module nobody has imported.
        return _is_imported(self._module) and isinstance(instance, self._real())

    def __subclasscheck__(self, cls: type) -> bool:
        return _is_imported(self._module) and issubclass(cls, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __or__(self, other: Any) -> Any:
        return Any  # in annotations; a union would look into it

    __ror__ = __or__


class _AfterImport(importlib.abc.MetaPathFinder):
    """Does something to a module as soon as somebody has imported it."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name, self.then = name, then

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def and_then(module: ModuleType) -> None:
                execute(module)
                self.then(module)

            spec.loader.exec_module = and_then  # type: ignore[method-assign]
        return spec


def _room_for_all(module: ModuleType) -> None:
    """transformers reads the files of all its models twice, since it remembers 128 folders."""
    scan: Any = getattr(module, "create_import_structure_from_path", None)
    if hasattr(scan, "cache_info"):
        vars(module)[scan.__name__] = functools.cache(scan.__wrapped__)


def _disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
    """The compiler's decorator that keeps it off a function; off which it is until imported."""
    if fn is None:
        return functools.partial(_disable, recursive=recursive, **options)

    @functools.cache
    def disabled() -> Callable[..., Any]:
        made: Callable[..., Any] = sys.modules[COMPILER].disable(fn, recursive, **options)
        return made

    @functools.wraps(fn)
    def called(*args: Any, **kwargs: Any) -> Any:
        use = disabled() if _is_imported(COMPILER) else fn
        return use(*args, **kwargs)

    return called


def _is_imported(module: str) -> bool:
    return module in sys.modules and not isinstance(sys.modules[module], _LateModule)
