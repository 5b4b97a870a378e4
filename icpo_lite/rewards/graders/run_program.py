"""A whole program on standard input, run inside the sandbox by this text."""

from __future__ import annotations

import sys
import types
from typing import Any


def main(job: dict[str, Any]) -> None:
    """Run job["program"] as the main module; what is left of standard input is the program's."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(job["program"], "<reply>", "exec"), vars(module))
