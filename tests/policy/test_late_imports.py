"""Modules whose names are there at once, and which are imported once a name is used."""

import importlib
import subprocess
import sys

import pytest

from icpo_lite.policy import late_imports
from icpo_lite.policy.late_imports import imported_late

HEAVY = """
import builtins
builtins.HEAVY_WAS_IMPORTED = True

class Thing:
    kind = "real"

def added(a, b=1):
    return a + b

def disable(fn, recursive=True, reason=None):
    def called(*args):
        return "disabled", fn(*args)
    return called

def allow_in_graph(fn):
    fn.allowed = True
    return fn
"""
USES = """
import heavy
import heavy.inner
from heavy import Thing, added
from heavy.inner import Deep

def is_thing(x: Thing | None = None) -> bool:
    return isinstance(x, Thing)

def is_deep(x) -> bool:
    return issubclass(type(x), (Deep, Thing))
"""
MARKED = """
import heavy

@heavy.allow_in_graph
def marked(x):
    return x

@heavy.disable
def kept_off(x):
    return x

@heavy.disable(recursive=False)
def kept_off_too(x):
    return x
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy/__init__.py").write_text(HEAVY)
    (tmp_path / "heavy/inner.py").write_text("class Deep:\n    pass\n")
    (tmp_path / "uses.py").write_text(USES)
    (tmp_path / "marked.py").write_text(MARKED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delattr("builtins.HEAVY_WAS_IMPORTED", raising=False)
    finders = list(sys.meta_path)
    yield
    assert sys.meta_path == finders
    for name in ("heavy", "heavy.inner", "uses", "marked"):
        sys.modules.pop(name, None)


def was_imported() -> bool:
    import builtins

    return hasattr(builtins, "HEAVY_WAS_IMPORTED")


def test_names_are_there_and_their_module_comes_at_first_use():
    with imported_late(["heavy"]):
        uses = importlib.import_module("uses")
        assert not uses.is_thing(3)
        assert not uses.is_deep(3)
    assert "heavy" not in sys.modules
    assert not was_imported()
    assert uses.added(2) == 3
    assert was_imported()
    import heavy

    assert uses.is_thing(heavy.Thing())
    assert uses.is_deep(heavy.Thing())
    assert uses.Thing.kind == "real"
    assert uses.Deep() is not None  # imports what it is in

    class Own(uses.Thing):
        pass

    assert isinstance(Own(), heavy.Thing)


def test_the_first_use_within_ends_it():
    with imported_late(["heavy"]):
        uses = importlib.import_module("uses")
        assert uses.added(1) == 2
        import heavy

        assert heavy.Thing.kind == "real"
    assert sys.modules["heavy"] is heavy


def test_what_is_there_already_or_nowhere_stays_as_it_is():
    import heavy

    with imported_late(["heavy", "no_such_library"]):
        from heavy import Thing

        assert Thing is heavy.Thing
        with pytest.raises(ImportError):
            import no_such_library  # noqa: F401


def test_the_compiler_hears_of_its_marks_when_somebody_imports_it(monkeypatch):
    monkeypatch.setattr(late_imports, "COMPILER", "heavy")
    with imported_late(["heavy"]):
        marked = importlib.import_module("marked")
        assert marked.kept_off(1) == marked.kept_off_too(1) == 1
    assert not was_imported()
    assert marked.kept_off(1) == 1
    assert not hasattr(marked.marked, "allowed")
    import heavy  # noqa: F401

    assert marked.marked.allowed
    assert marked.kept_off(1) == marked.kept_off_too(1) == ("disabled", 1)


def test_a_model_on_a_cpu_needs_none_of_them():
    """In 4 bits, its weights unpacked for sampling: as an evaluation of the built-in model does."""
    script = (
        "import sys\n"
        "from icpo_lite.policy.dense_copies import dense_layers\n"
        "from icpo_lite.policy.load import load_policy\n"
        "from icpo_lite.recipe.sections import ModelKeys\n"
        "policy = load_policy(ModelKeys(model_name_or_path='builtin:tiny', device='cpu'))\n"
        "with dense_layers(policy):\n"
        "    pass\n"
        "found = ('torch._dynamo', 'torch.distributed.tensor', 'scipy.optimize')\n"
        "print([name for name in found if name in sys.modules])\n"
        "import torch\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)) == 2\n"
        "from torch.distributed.tensor import DTensor\n"
        "assert isinstance(DTensor, type)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert done.returncode == 0, done.stderr
