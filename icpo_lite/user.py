"""How a user words things: all at once, one shard a turn, or everything so far again.

The wordings follow the settings of Lost in Conversation (arXiv 2505.06120) in our own words.
"""

from __future__ import annotations

from collections.abc import Sequence

from icpo_lite.types import Shard

#: What the assistant is made to say in a clean history when nobody knows a better question.
NEUTRAL_QUESTION = "What else should I know?"


def _bullets(shards: Sequence[Shard]) -> str:
    return "\n".join(f"- {shard.text}" for shard in shards)


def concat_text(shards: Sequence[Shard]) -> str:
    """CONCAT: one turn with every shard as a bullet."""
    return f"Here is everything you need:\n{_bullets(shards)}"


def recap_text(shards: Sequence[Shard]) -> str:
    """RECAP: the last turn, after a sharded conversation, that repeats all shards."""
    return f"To recap, here is everything you need:\n{_bullets(shards)}"


def snowball_text(known: Sequence[Shard], new: Shard) -> str:
    """SNOWBALL: a turn that repeats all earlier shards before it adds one."""
    return f"So far:\n{_bullets(known)}\nNow also:\n{_bullets([new])}"
