"""Log-probs of how a reply may begin, for many chats, by the log-prob op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from icpo_lite.policy.cpu import pieces_of
from icpo_lite.policy.kernels.logprob import token_logprobs
from icpo_lite.policy.logprobs import hidden_states, lm_head_options, proved_impl

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

Ids = tuple[int, ...]


@torch.no_grad()
def opening_logprobs(
    policy: Policy,
    prompts_B: Sequence[Sequence[int]],
    openings_M: Sequence[Ids],
    *,
    temperature: float = 1.0,
    rows: int = 64,
) -> np.ndarray:
    """log p(opening | prompt) [B, M] in nats under the policy as it stands.

    openings_M: token ids, none of them empty. Openings of one token cost one pass over a prompt;
    longer ones one more for each of their beginnings that no other one continues. rows: of a pass
    on a GPU.
    """
    paths = _longest_beginnings(openings_M)
    out = np.zeros((len(prompts_B), len(openings_M)))
    jobs = [(b, path) for b in range(len(prompts_B)) for path in paths]
    jobs.sort(key=lambda job: len(prompts_B[job[0]]) + len(job[1]))
    lengths = [len(prompts_B[b]) + len(path) for b, path in jobs]
    on_cpu = policy.device.torch_device.type == "cpu"
    every = range(len(jobs))
    at_once = pieces_of(lengths) if on_cpu else [every[i : i + rows] for i in every[::rows]]
    for piece in at_once:
        _score(policy, prompts_B, paths, [jobs[i] for i in piece], temperature, out)
    return out


def _longest_beginnings(openings: Sequence[Ids]) -> dict[Ids, list[tuple[int, Ids]]]:
    """Beginning → the openings (index, ids) that are read off the row that holds it."""
    begin = {ids[:-1] for ids in openings}
    longest = [b for b in begin if not any(o != b and o[: len(b)] == b for o in begin)]
    out: dict[Ids, list[tuple[int, Ids]]] = {path: [] for path in sorted(longest)}
    for index, ids in enumerate(openings):
        path = next(p for p in out if p[: len(ids) - 1] == ids[:-1])
        out[path].append((index, ids))
    return out


def _score(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    paths: dict[Ids, list[tuple[int, Ids]]],
    jobs: Sequence[tuple[int, Ids]],
    temperature: float,
    out: np.ndarray,
) -> None:
    """Add the log-probs of the openings of these rows to `out`."""
    device = policy.device.torch_device
    texts = [[*prompts[b], *path] for b, path in jobs]
    width = max(map(len, texts))
    ids = torch.full((len(texts), width), policy.pad_id)
    mask = torch.zeros(len(texts), width, dtype=torch.long)
    row_N, at_N, target_N, owner_N = [], [], [], []
    for row, ((b, path), text) in enumerate(zip(jobs, texts, strict=True)):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
        for m, opening in paths[path]:
            for step, token in enumerate(opening):
                row_N.append(row)
                at_N.append(len(prompts[b]) - 1 + step)
                target_N.append(token)
                owner_N.append((b, m))
    hidden = hidden_states(policy, ids.to(device), mask.to(device))
    logp, _ = token_logprobs(
        hidden[torch.tensor(row_N, device=device), torch.tensor(at_N, device=device)],
        targets=torch.tensor(target_N, device=device),
        temperature=temperature,
        impl=proved_impl(policy),
        **lm_head_options(policy),
    )
    b_N, m_N = np.array(owner_N).T
    np.add.at(out, (b_N, m_N), logp.double().cpu().numpy())
