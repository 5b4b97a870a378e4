"""unsloth's scope for CUDA graphs is entered where its version has one."""

import sys
from types import ModuleType

import pytest

from icpo_lite.policy.unsloth_backend import graph_scope


@pytest.fixture
def fake(monkeypatch):
    """The names that unsloth 2026.10.9 has; what happened is kept in `seen`."""
    graphs = ModuleType("unsloth.models._decode_graphs")
    graphs.seen = []

    class rl_generation:
        def __enter__(self):
            graphs.seen.append("in")
            return self

        def __exit__(self, *details):
            graphs.seen.append("out")
            return False

    graphs.rl_generation = rl_generation
    for name in ("unsloth", "unsloth.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, graphs.__name__, graphs)
    return graphs


def test_the_scope_is_entered_and_left(fake):
    with graph_scope():
        assert fake.seen == ["in"]
    assert fake.seen == ["in", "out"]


def test_an_older_unsloth_or_none_does_without(fake, monkeypatch):
    del fake.rl_generation
    with graph_scope():
        pass
    monkeypatch.setitem(sys.modules, fake.__name__, None)
    with graph_scope():
        pass
    assert fake.seen == []
