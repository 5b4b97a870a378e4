"""Settings that must hold before torch or a hub library is first imported."""

import os
import signal

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A worker a core: with as many threads each they wait for one another, a fifth more processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores these for its jobs in the background, nohup the first; programs under test would
# inherit that, and be deaf to what tests send them.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == 2 else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` need one; ICPO_TEST_DEVICE=cpu runs those that can on a CPU instead."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or os.environ.get("ICPO_TEST_DEVICE"):
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
