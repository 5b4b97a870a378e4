"""Masks come from what was sampled: end of turn inside, padding outside, also when pad = eos."""

from dataclasses import replace

import pytest
import torch

from icpo_lite.core.types import Group, Intent, Prompt, Trajectory, Turn
from icpo_lite.training.batch import collate

EOS = PAD = 9


def trajectory(prompt_ids, *turns):
    prompt = Prompt("p", "p", "math", Intent.COMPLETE, (), "1")
    return Trajectory(prompt, tuple(prompt_ids), tuple(turns))


def said(ids, reason="eos", role="assistant"):
    logprobs = tuple(-0.5 * (i + 1) for i in range(len(ids))) if role == "assistant" else ()
    return Turn(role, "", tuple(ids), logprobs, reason if role == "assistant" else None)


def group(*trajectories):
    return Group(
        trajectories[0].prompt, trajectories, tuple(float(i) for i in range(len(trajectories)))
    )


def test_masks_by_hand():
    batch = collate(
        [group(trajectory([1, 2], said([3, EOS])), trajectory([1], said([4, 5, 6], "length")))], PAD
    )
    assert batch.input_ids.tolist() == [[1, 2, 3, 9], [1, 4, 5, 6]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
    # Column t speaks of token t + 1: row 0 was sampled at tokens 2 and 3, row 1 at 1, 2 and 3.
    assert batch.loss_mask.tolist() == [[False, True, True], [True, True, True]]
    assert batch.sampled_logps[0].tolist() == [0.0, -0.5, -1.0]
    assert batch.truncated.tolist() == [False, True]
    assert batch.advantages.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_padding_is_outside_although_it_is_the_end_token():
    batch = collate([group(trajectory([1], said([EOS])), trajectory([1], said([3, 4, EOS])))], PAD)
    assert batch.input_ids[0].tolist() == [1, 9, 9, 9]
    assert batch.attention_mask[0].tolist() == [1, 1, 0, 0]
    assert batch.loss_mask[0].tolist() == [True, False, False]


def test_user_turns_of_a_conversation_carry_no_loss():
    t = trajectory([1], said([2, EOS]), said([7, 8], role="user"), said([3, EOS]))
    batch = collate([group(t)], PAD)
    assert batch.input_ids[0].tolist() == [1, 2, 9, 7, 8, 3, 9]
    assert batch.loss_mask[0].tolist() == [True, True, False, False, True, True]


def test_a_turns_own_advantage_and_a_tokens_have_a_place():
    first = replace(said([2, EOS]), advantage=-0.5)
    last = replace(said([3, 4, EOS]), advantage=(0.5, 1.0, 2.0))
    t = trajectory([1, 1], first, said([7, 8], role="user"), last)
    batch = collate([group(trajectory([1], said([5])), t)], PAD)
    assert batch.advantages[1].tolist() == [0.0, -0.5, -0.5, 0.0, 0.0, 0.5, 1.0, 2.0]
    assert batch.advantages[0].tolist() == [0.0] * 8
    assert batch.rows(torch.tensor([0])).advantages.shape == (1, 1)


def test_a_conversation_with_a_reply_that_was_cut_off_counts_as_cut_off():
    t = trajectory([1], said([2], "length"), said([7], role="user"), said([3, EOS]))
    assert collate([group(t)], PAD).truncated.tolist() == [True]


def test_micro_batches_are_longest_first_cut_and_complete():
    rows = [trajectory([1], said([2] * n)) for n in (1, 5, 3)]
    batch = collate([group(*rows)], PAD)
    pieces = list(batch.micro_batches(2))
    assert [p.tolist() for p, _ in pieces] == [[1, 2], [0]]
    assert [b.input_ids.shape[1] for _, b in pieces] == [6, 2]
    assert torch.equal(pieces[1][1].input_ids, batch.input_ids[0:1, :2])


def test_micro_batches_that_keep_groups_lead_with_the_longest():
    lengths = ((1, 4), (5, 2, 3), (4, 4))
    batch = collate([group(*(trajectory([1], said([2] * n)) for n in g)) for g in lengths], PAD)
    pieces = [piece.tolist() for piece, _ in batch.micro_batches(4, keep_groups=True)]
    assert pieces == [[2, 4, 3, 1], [0, 5, 6]]
    assert batch.group.tolist() == [0, 0, 1, 1, 1, 2, 2]
    part = batch.rows(torch.tensor([5, 6, 2]))  # groups 2, 2 and 1, of 5, 5 and 6 tokens
    assert [p.tolist() for p, _ in part.micro_batches(2, keep_groups=True)] == [[2, 0], [1]]
    assert batch.rows(torch.tensor([6, 0])).group.tolist() == [2, 0]


def test_some_rows_of_many_groups_keep_their_groups_together():
    """A micro-batch, or what is left of one that did not fit: fewer rows than there are groups."""
    lengths = ((1, 4), (5, 2), (4, 3), (2, 6))
    batch = collate([group(*(trajectory([1], said([2] * n)) for n in g)) for g in lengths], PAD)
    part = batch.rows(torch.tensor([4, 7, 5]))
    assert [p.tolist() for p, _ in part.micro_batches(2, keep_groups=True)] == [[1, 0], [2]]


def test_groups_need_advantages():
    t = trajectory([1], said([2]))
    with pytest.raises(ValueError, match="no advantages"):
        collate([Group(t.prompt, (t,))], PAD)
