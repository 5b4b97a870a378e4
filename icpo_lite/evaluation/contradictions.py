"""Problems that contradict themselves: one of their facts is said twice, with two numbers.

Nothing lacks, and yet no answer is right: who notices asks or declines. After Concept Incongruence
(arXiv 2505.14905), which puts conflicting roles and facts into prompts and counts abstention,
answers, and how many of these are right; the prompts here are made of the problem itself, and right
is what was right before.
"""

from __future__ import annotations

import random
import re

from icpo_lite.core.types import Problem, Shard

#: A whole number in digits that stands alone: no part of 1,200, 3.5, 4th or 7%.
_WHOLE = re.compile(r"(?<![\w.,$€£/:-])\d+(?![\w%/:-]|[.,]\d)")
#: Says that what follows is no further fact: "Dora buys 8 rolls" may be a second purchase.
_AGAIN = "The same fact is also given as:"
#: By how much the second statement is off.
_STEPS = (2, 3, 5, 7)


def contradicted(problem: Problem, run: int) -> str | None:
    """The problem's text and one of its facts again with another number; None without such a fact.

    A fact is taken whose only number is a whole one in digits. The same run gives the same text.
    """
    facts = [s for s in problem.shards if not s.is_question and _number(s) is not None]
    if not facts:
        return None
    rng = random.Random(f"contradictory/{problem.problem_id}/{run}")
    fact = rng.choice(facts)
    found = _number(fact)
    assert found is not None
    said = {int(m[0]) for m in _WHOLE.finditer(problem.question)}
    others = [n for n in (int(found[0]) + step for step in _STEPS) if n not in said]
    number = rng.choice(others or [max(said, default=0) + 1])
    again = f"{fact.text[: found.start()]}{number}{fact.text[found.end() :]}".strip()
    again = again[:1].upper() + again[1:]
    end = "" if again[-1:] in ".!?" else "."
    return f"{problem.question.rstrip()} {_AGAIN} {again}{end}"


def _number(shard: Shard) -> re.Match[str] | None:
    """The only number of a fact, where it has one and that in digits."""
    whole = list(_WHOLE.finditer(shard.text))
    return whole[0] if len(whole) == 1 and len(re.findall(r"\d+", shard.text)) == 1 else None
