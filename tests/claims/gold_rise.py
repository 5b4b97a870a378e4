"""Who says what a question asks for: rules, the model asked outright, the rise of the gold answer.

    python tests/claims/gold_rise.py --model builtin:tiny

On the built-in world, whose every fact has its own question: how many of the questions about a
removed fact each way recognises, and how many of those that it calls so are. `answer` is the first
half of gold_rise alone: the fact that the model finds the likeliest answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from icpo_lite.core.types import Intent, Prompt
from icpo_lite.data.tiny_world import world_problems, world_prompts
from icpo_lite.policy.from_recipe import load_model
from icpo_lite.policy.logprobs import PolicyScorer
from icpo_lite.rewards.model_targets import GoldRise, SelfTargets
from icpo_lite.rewards.question_targets import aim


def questions(split: str, problems: int) -> list[tuple[Prompt, str, bool]]:
    """Prompt, question and whether it asks for a removed fact."""
    found = []
    for prompt in world_prompts(list(world_problems(split, problems)), seed=3):
        if prompt.intent is Intent.UNDERSPECIFIED:
            gone = {shard.shard_id for shard in prompt.removed}
            asks = enumerate(prompt.columns["asks"], start=1)
            found += [(prompt, question, i in gone) for i, question in asks]
    return found


def figures(said: Sequence[bool], truth: Sequence[bool]) -> str:
    right = sum(a and b for a, b in zip(said, truth, strict=True))
    recall, precision = right / sum(truth), right / max(1, sum(said))
    return f"recall {recall:.3f}, precision {precision:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="builtin:tiny", help="a run, a folder or a hub name")
    parser.add_argument("--problems", type=int, default=60)
    args = parser.parse_args()
    scorer = PolicyScorer(load_model(args.model, device="auto")[0])
    for split in ("train", "dev", "transfer"):
        rows = questions(split, args.problems)
        items, truth = [(p, q) for p, q, _ in rows], [on for _, _, on in rows]
        rises = GoldRise(scorer).rises(items)
        answers = [r.answer in p.removed for (p, _), r in zip(items, rises, strict=True)]
        rose = [hit and r.rise > 0 for hit, r in zip(answers, rises, strict=True)]
        print(f"{split}: {len(rows)} questions, {sum(truth)} about a removed fact")
        print(f"  rules      {figures([aim(p, q).hits > 0 for p, q in items], truth)}")
        print(f"  self       {figures(SelfTargets(scorer).targets(items), truth)}")
        print(f"  answer     {figures(answers, truth)}")
        print(f"  gold_rise  {figures(rose, truth)}")


if __name__ == "__main__":
    main()
