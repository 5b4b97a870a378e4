"""Prompts computed piece by piece are what they are side by side."""

import pytest
import torch
from policies import tiny_with_noise

from icpo_lite.core.types import Message
from icpo_lite.policy import cpu
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.rollout.engines.native import sample_native
from icpo_lite.rollout.engines.prefill import prefill
from icpo_lite.rollout.engines.prefix_memory import PrefixMemory
from icpo_lite.rollout.noise import SamplingOptions


@pytest.fixture(scope="module")
def policy():
    return tiny_with_noise()


@pytest.fixture(scope="module")
def prompts(policy):
    texts = [f"Ann has {n} apples. {'How many? ' * (n % 4)}" for n in (3, 1, 2, 0, 7, 4)]
    return [policy.encode_chat([Message("user", text)]) for text in texts]


def both_ways(policy, prompts, monkeypatch, **options):
    """(side by side, in pieces) and how many rows and columns each pass had."""
    shapes = []
    lm = policy.causal_lm
    with torch.no_grad(), dense_layers(policy):
        forward = lm.forward

        def counted(*args, **asked):
            shapes.append(tuple(asked["input_ids"].shape))
            return forward(*args, **asked)

        monkeypatch.setattr(lm, "forward", counted)
        whole = prefill(policy, prompts, **options)
        monkeypatch.setattr(cpu, "PIECE_TOKENS", 60)
        return whole, prefill(policy, prompts, **options), shapes


def same(policy, one, other, filled):
    """Logits, masks, and keys and values of every column that belongs to a row."""
    assert torch.allclose(one[0], other[0], atol=2e-4)
    assert torch.equal(one[2], other[2])
    seen = one[2][:, :filled].bool()
    for a, b in zip(one[1].layers, other[1].layers, strict=True):
        for x, y in ((a.keys, b.keys), (a.values, b.values)):
            x, y = (z.transpose(1, 2)[seen] for z in (x, y))
            assert torch.allclose(x, y, atol=2e-4)


@pytest.mark.parametrize("drop_last", [False, True])
def test_pieces_are_the_rows_of_one_cache(policy, prompts, monkeypatch, drop_last):
    whole, pieces, shapes = both_ways(policy, prompts, monkeypatch, drop_last=drop_last)
    width = whole[2].shape[1]
    assert whole[1].get_seq_length() == pieces[1].get_seq_length() == width - drop_last
    same(policy, whole, pieces, width - drop_last)
    first, *others = shapes
    assert first == (len(prompts), width - drop_last)
    assert len(others) > 2
    # Each is as wide as its own longest alone.
    assert sum(rows * columns for rows, columns in others) < first[0] * first[1]
    hidden = ~pieces[2][:, : width - drop_last].bool()
    assert all(not layer.keys.transpose(1, 2)[hidden].isnan().any() for layer in pieces[1].layers)


def test_what_is_known_of_each_stands_before_its_piece(policy, prompts, monkeypatch):
    memory = PrefixMemory(1 << 30)
    keys = [("known", p, 0) for p in range(len(prompts))]
    replies = sample_native(policy, prompts, keys, SamplingOptions(12, memory=memory))
    # Half of them go on, by more or fewer words; the others are new.
    more = policy.encode_text(" And how many figs does Kim have?")
    texts = [
        (*p, *reply.token_ids, *more[: 3 + 2 * n]) if n % 2 else tuple(reversed(p))
        for n, (p, reply) in enumerate(zip(prompts, replies, strict=True))
    ]
    whole, pieces, shapes = both_ways(policy, texts, monkeypatch, memory=memory)
    assert len(shapes) > 2
    assert torch.allclose(whole[0], pieces[0], atol=2e-4)
    alone = [prefill(policy, [text])[0] for text in texts]
    assert torch.allclose(torch.cat(alone), pieces[0], atol=2e-4)
    assert pieces[2].sum(-1).tolist() == [len(text) for text in texts]


def test_tokens_that_follow_pieces_are_those_that_follow_all(policy, prompts, monkeypatch):
    keys = [("follow", p, g) for p in range(len(prompts)) for g in range(2)]
    options = SamplingOptions(24, 1.3)
    whole = sample_native(policy, prompts, keys, options)
    monkeypatch.setattr(cpu, "PIECE_TOKENS", 60)
    pieces = sample_native(policy, prompts, keys, options)
    assert [c.token_ids for c in whole] == [c.token_ids for c in pieces]
