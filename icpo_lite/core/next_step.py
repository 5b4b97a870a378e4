"""What to type next: every command ends with it, with the user's own paths."""

from __future__ import annotations

import shlex


def next_line(*words: object, also: tuple[object, ...] = ()) -> str:
    """`Next: icpo-lite report runs/my`, quoted for a shell. also: a second command, below it."""
    lines = [f"Next: {_command(words)}"]
    if also:
        lines.append(f"      {_command(also)}")
    return "\n".join(lines)


def _command(words: tuple[object, ...]) -> str:
    return shlex.join(["icpo-lite", *map(str, words)])
