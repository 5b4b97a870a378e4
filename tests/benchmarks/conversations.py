"""Sampling in conversations beside sampling single replies, at equal tokens; JSON.

    python tests/benchmarks/conversations.py [--recipe tiny-multiturn] [--turns 5] [--other TREE]

Both ways sample and judge with the recipe's shapes until each has about as many reply tokens; they
take turns in one process, and the figure is the median of the turns' ratios of tokens a second of
processor time. Then one long conversation is played turn by turn: tokens that the model reads
anew, bytes of keys and values, and seconds, which grow by the same amount a turn. --other is a
checkout that is measured too, in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Turns and replies of the long conversation.
LONG_TURNS, LONG_REPLIES, LONG_TOKENS = 8, 16, 24


def reply_tokens(groups: Any) -> int:
    return sum(
        len(turn.token_ids)
        for group in groups
        for trajectory in group.trajectories
        for turn in trajectory.turns
        if turn.role == "assistant"
    )


def measure(name: str, turns: int) -> dict[str, Any]:
    from icpo_lite.data.from_recipe import training_prompts
    from icpo_lite.policy.load import load_policy
    from icpo_lite.recipe import load_recipe
    from icpo_lite.rewards.from_recipe import bind_judge, choose_shard
    from icpo_lite.rollout.conversation_groups import converse_groups
    from icpo_lite.rollout.groups import judge_groups, sample_groups
    from icpo_lite.rollout.sampler import SamplingOptions

    recipe = load_recipe(name, ["device=cpu"])
    policy = load_policy(recipe, threads=1)
    made, _ = training_prompts(recipe, policy)
    lacking = [p for p in made if len(p.removed) >= 2]
    judge, options = bind_judge(recipe, policy), SamplingOptions(recipe.max_completion_length)
    size = recipe.prompts_per_step

    def played(step: int, *, single: bool) -> Any:
        first = step * size % (len(lacking) - size)
        prompts = lacking[first : first + size]
        ids = [policy.encode_chat(p.messages) for p in prompts]
        shared: dict[str, Any] = {
            "num_generations": recipe.num_generations,
            "options": options,
            "seed": 0,
            "step": step,
        }
        if single:
            return judge_groups(sample_groups(policy, prompts, ids, **shared), judge)
        talk = {"max_turns": recipe.max_assistant_turns, "choose": choose_shard}
        return converse_groups(policy, prompts, ids, judge, **shared, **talk)

    for single in (True, False):
        played(0, single=single)
    found: list[dict[str, float]] = []
    digest = hashlib.blake2b(digest_size=8)
    for turn in range(1, turns + 1):
        started = time.process_time()
        groups = played(turn, single=False)
        talked = time.process_time() - started
        tokens = reply_tokens(groups)
        for group in groups:
            said = [[t.token_ids for t in trajectory.turns] for trajectory in group.trajectories]
            digest.update(repr(said).encode())
        alone, step, started = 0, turn, time.process_time()
        while alone < tokens:
            alone += reply_tokens(played(step, single=True))
            step += turns
        found.append(
            {
                "conversation": tokens / talked,
                "single": alone / (time.process_time() - started),
                "tokens": tokens,
            }
        )
    ratios = [row["conversation"] / row["single"] for row in found]
    return {
        "tokens_a_cpu_second": {
            way: round(statistics.median(row[way] for row in found))
            for way in ("conversation", "single")
        },
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "samples": digest.hexdigest(),
        "long": long_conversation(policy),
    }


def long_conversation(policy: Any) -> list[dict[str, float]]:
    """One group's conversation of many turns of full length: what each turn reads, holds, takes."""
    from icpo_lite.core.types import Message
    from icpo_lite.rollout.growing import GrowingTalker
    from icpo_lite.rollout.sampler import SamplingOptions

    opening = [Message("user", "How many apples do Ann and Ben have together?")]
    options = SamplingOptions(LONG_TOKENS, ignore_eos=True)
    talker = GrowingTalker(policy, options, {("long",): policy.encode_chat(opening)})
    chats = [list(opening) for _ in range(LONG_REPLIES)]
    lm, read, out = policy.causal_lm, [0], []
    forward = lm.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        read[0] += kwargs["input_ids"].numel()
        return forward(*args, **kwargs)

    lm.forward = counted
    try:
        for turn in range(LONG_TURNS):
            read[0], started = 0, time.process_time()
            replies = talker.reply(chats, [("long", turn, run) for run in range(LONG_REPLIES)])
            seconds = time.process_time() - started
            memory = getattr(talker, "memory", None)
            out.append(
                {
                    "turn": turn + 1,
                    "read": read[0],
                    "kept_mb": round(memory.held_bytes / 1e6, 2) if memory else 0.0,
                    "cpu_ms": round(seconds * 1000, 1),
                }
            )
            for chat, reply in zip(chats, replies, strict=True):
                chat += [
                    Message("assistant", reply.content),
                    Message("user", f"Ann has {turn + 3} apples."),
                ]
    finally:
        lm.forward = forward
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="tiny-multiturn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--other", default="")
    parser.add_argument("--one", action="store_true", help="this checkout alone")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.recipe, asked.turns)))
        return
    here = str(Path(__file__).resolve().parents[2])
    found = {}
    for name, tree in {"here": here, **({"other": asked.other} if asked.other else {})}.items():
        command = [sys.executable, __file__, "--one", "--recipe", asked.recipe]
        out = subprocess.run(
            [*command, "--turns", str(asked.turns)],
            env={**os.environ, "PYTHONPATH": tree},
            check=True,
            capture_output=True,
        )
        found[name] = json.loads(out.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
