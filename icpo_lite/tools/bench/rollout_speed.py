"""Sampling a group and training on it, each beside the plain way, in one process.

Sampling: replies of a fixed length by every engine that runs here, beside transformers' plain
`generate` of the prompt repeated. Training: forward and backward of a group's log-probs, its
prompt computed once, beside once a response. All take turns; each is compared with the plain way
of its own turn, so that a machine that slows down slows both. Medians are reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from icpo_lite.policy.inherited_options import generation_config
from icpo_lite.policy.load import Policy, load_policy
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs
from icpo_lite.recipe.sections import PolicyKeys
from icpo_lite.rollout.engines.registry import ENGINES
from icpo_lite.rollout.sampler import SamplingOptions, sample
from icpo_lite.tools.bench.machine import machine, versions
from icpo_lite.training.prompt_sharing import timed

PLAIN = "plain generate"
#: Spread of LoRA's B matrices, which are zero when new.
LORA_SPREAD = 0.02


@dataclass(frozen=True)
class GroupShape:
    """prompts of P tokens, `generations` replies of R tokens to each."""

    prompts: int = 1
    generations: int = 8
    prompt_tokens: int = 200
    reply_tokens: int = 50

    @property
    def rows(self) -> int:
        return self.prompts * self.generations


class EndlessPolicy(Policy):
    """A policy whose replies have all the length that they may have."""

    @property
    def end_ids(self) -> frozenset[int]:
        return frozenset({int(self.causal_lm.config.vocab_size)})


def bench_policy(keys: PolicyKeys) -> EndlessPolicy:
    """The model with a LoRA that is not zero, whose replies do not end."""
    policy = load_policy(keys)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter += (torch.randn(parameter.shape, generator=noise) * LORA_SPREAD).to(
                    parameter
                )
    return EndlessPolicy(**{f.name: getattr(policy, f.name) for f in fields(policy)})


def run_rollout_bench(
    policy: EndlessPolicy,
    shape: GroupShape,
    *,
    repeats: int = 7,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure both; the report is plain data for JSON (`markdown` makes the tables)."""
    device = policy.device.torch_device
    say(f"groups: {shape}")
    noise = torch.Generator().manual_seed(0)
    size = (shape.prompts, shape.prompt_tokens)
    prompts = torch.randint(policy.causal_lm.config.vocab_size, size, generator=noise).tolist()
    sampling, replies = _bench_sampling(policy, prompts, shape, repeats, say)
    return {
        "command": command,
        "model": policy.keys.model_name_or_path,
        "load_in_4bit": policy.keys.load_in_4bit,
        "gradient_checkpointing": policy.keys.gradient_checkpointing,
        "shape": {f.name: getattr(shape, f.name) for f in fields(shape)},
        "machine": machine(device),
        "versions": versions(["transformers", "peft", "bitsandbytes", "unsloth", "vllm"]),
        "sampling": sampling,
        "training": _bench_training(policy, prompts, replies, shape, repeats),
    }


def _bench_sampling(
    policy: EndlessPolicy,
    prompts: Sequence[Sequence[int]],
    shape: GroupShape,
    repeats: int,
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """A row for the plain way and for each engine, and the native engine's replies."""
    ways: dict[str, Callable[[], Any]] = {PLAIN: partial(_plain, policy, prompts, shape)}
    rows: list[dict[str, Any]] = []
    replies: list[list[int]] = []
    for name, engine in ENGINES.items():
        why = engine.unfit(policy)
        if why is None:
            ways[name] = partial(_engine, policy, prompts, shape, name)
            groups = ways[name]()
            assert all(len(c.token_ids) == shape.reply_tokens for g in groups for c in g)
            replies = replies or [list(c.token_ids) for g in groups for c in g]
        else:
            rows.append({"engine": name, "status": why})
        say(f"  {name}: {why or 'ok'}")
    ways[PLAIN]()
    seconds = _in_turns(policy, ways, repeats)
    tokens = shape.rows * shape.reply_tokens
    measured = [
        {
            "engine": name,
            "status": "ok",
            "seconds": found,
            "tokens_per_second": tokens / statistics.median(found),
            "times_plain": _ratio(seconds[PLAIN], found),
        }
        for name, found in seconds.items()
    ]
    return [*measured, *rows], replies


def _plain(policy: Policy, prompts: Sequence[Sequence[int]], shape: GroupShape) -> None:
    """transformers' `generate` as one would write it: the prompt once for each reply."""
    ids = torch.tensor(prompts, device=policy.device.torch_device)
    ids = ids.repeat_interleave(shape.generations, 0)
    with torch.no_grad():
        policy.causal_lm.eval().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=generation_config(
                max_new_tokens=shape.reply_tokens,
                eos_token_id=sorted(policy.end_ids),
                pad_token_id=policy.pad_id,
                temperature=1.0,
            ),
        )


def _engine(
    policy: Policy, prompts: Sequence[Sequence[int]], shape: GroupShape, name: str
) -> list[list[Any]]:
    options = SamplingOptions(shape.reply_tokens, engine=name)
    keys = [("bench", p) for p in range(len(prompts))]
    return sample(policy, prompts, n=shape.generations, options=options, keys_P=keys)


def _bench_training(
    policy: EndlessPolicy,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    shape: GroupShape,
    repeats: int,
) -> dict[str, Any]:
    """Both ways of the step on what was sampled, and how far their numbers are apart."""
    device = policy.device.torch_device
    owners = [prompt for prompt in prompts for _ in range(shape.generations)]
    ids = torch.tensor([[*p, *r] for p, r in zip(owners, replies, strict=True)], device=device)
    mask = torch.zeros(len(ids), ids.shape[1] - 1, dtype=torch.bool, device=device)
    mask[:, shape.prompt_tokens - 1 :] = True
    noise = torch.Generator().manual_seed(1)
    advantages = torch.randn(len(ids), 1, generator=noise).to(device)

    def step(share: bool) -> tuple[Tensor, list[Tensor]]:
        policy.model.zero_grad(set_to_none=True)
        logps, _ = completion_logprobs(
            policy, ids, torch.ones_like(ids), mask, LogprobOptions(shared_prompts=share)
        )
        # Ratio 1, as on the first update: the gradient of the clipped surrogate.
        (-(logps - logps.detach()).exp() * advantages * mask).sum().div(mask.sum()).backward()
        return logps.detach(), [p.grad for p in policy.trainable() if p.grad is not None]

    (plain, plain_grads), (shared, shared_grads) = step(False), step(True)
    apart = [
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))
        for a, b in zip(plain_grads, shared_grads, strict=True)
    ]
    seconds = _in_turns(
        policy, {"plain": partial(step, False), "shared": partial(step, True)}, repeats
    )
    policy.model.zero_grad(set_to_none=True)
    return {
        "seconds": seconds,
        "times_plain": _ratio(seconds["plain"], seconds["shared"]),
        "tokens": {
            "plain": ids.numel(),
            "shared": shape.prompts * shape.prompt_tokens + shape.rows * (shape.reply_tokens - 1),
        },
        "logp_difference": float((plain - shared).abs().max()),
        "grad_difference": max(apart),
    }


def _in_turns(
    policy: Policy, ways: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            seconds[name].append(timed(policy.device.torch_device, run))
    return seconds


def _ratio(plain: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast, median over turns."""
    return statistics.median(a / b for a, b in zip(plain, other, strict=True))


def markdown(report: Mapping[str, Any]) -> str:
    """Both tables of a report, as Markdown."""
    shape, training = report["shape"], report["training"]
    lines = [
        f"{report['model']}: {shape['prompts']} prompts of {shape['prompt_tokens']} tokens, "
        f"{shape['generations']} replies of {shape['reply_tokens']} to each",
        f"`{report['command']}`",
        "",
        "| sampling | tokens/s | times plain | status |",
        "|---|---|---|---|",
    ]
    for row in report["sampling"]:
        measured = row["status"] == "ok"
        speed = f"{row['tokens_per_second']:,.0f}" if measured else "–"
        gain = f"{row['times_plain']:.2f}" if measured else "–"
        lines.append(f"| {row['engine']} | {speed} | {gain} | {row['status']} |")
    lines += ["", "| training step | time | tokens | times plain |", "|---|---|---|---|"]
    for way, times in (("plain", 1.0), ("shared", training["times_plain"])):
        seconds = statistics.median(training["seconds"][way])
        lines.append(
            f"| prompt {way} | {seconds * 1e3:.1f} ms | {training['tokens'][way]} | {times:.2f} |"
        )
    lines += [
        "",
        f"Shared and plain differ by {training['logp_difference']:.1e} in log-probs and "
        f"{training['grad_difference']:.1e} in gradients (of the largest element) at most.",
    ]
    return "\n".join(lines)
