"""A teacher with a cleaner view: what it reads, what its word weighs, what is learned of it."""

from dataclasses import replace

import pytest
import torch

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.oom import Size
from icpo_lite.core.types import Group, Intent, Message, Prompt, Shard, Trajectory, Turn
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import LogprobOptions
from icpo_lite.recipe import load_recipe
from icpo_lite.training.batch import collate
from icpo_lite.training.distillation import Distiller
from icpo_lite.training.distillation_loss import (
    Taught,
    distillation_loss,
    prefix_weights,
    reliability,
)
from icpo_lite.training.learned_batch import LearnedBatch
from icpo_lite.training.step_plan import Schedules
from icpo_lite.training.without_gradient import without_gradient

BASE = ("device=cpu", "load_in_4bit=false")
OPTIONS = LogprobOptions(impl="torch")


def recipe(*overrides):
    return load_recipe("tiny-maigo", [*BASE, *overrides])


@pytest.fixture(scope="module")
def policy():
    made = load_policy(recipe(), threads=1)
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.trainable():
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    return made


FACTS = (
    Shard(0, "How many pears do Ann and Ben have together?", is_question=True),
    Shard(1, "Ann has 3 pears."),
    Shard(2, "Ben has 5 pears."),
)


def prompt(*said, lacks=(1, 2), opening=()):
    """Messages as (role, words); `lacks`: the facts that they do not hold."""
    return Prompt(
        prompt_id="p/under" if lacks else "p/whole",
        problem_id="p",
        task="math",
        intent=Intent.UNDERSPECIFIED if lacks else Intent.COMPLETE,
        messages=(*opening, *(Message(r, t) for r, t in said)),
        answer="8",
        shards=FACTS,
        removed=tuple(s for s in FACTS if s.shard_id in lacks),
        opening=len(opening),
    )


WHOLE = prompt(("user", " ".join(s.text for s in FACTS)), lacks=())


def turn(policy, text, logprob=-0.5):
    ids = (*policy.encode_text(text), min(policy.end_ids))
    return Turn("assistant", text, ids, (logprob,) * len(ids), "eos")


def told(policy, *shards):
    text = " ".join(FACTS[i].text for i in shards)
    return Turn("user", text, policy.encode_text(text), told=shards)


def talk(policy, began=None):
    """Two guesses while something lacks, then an answer once all is told."""
    began = began or prompt(("user", FACTS[0].text))
    turns = (
        turn(policy, "2 + 4 = 6. The answer is 6."),
        told(policy, 1),
        turn(policy, "6 + 3 = 9. The answer is 9."),
        told(policy, 2),
        turn(policy, "9 + 5 = 14. The answer is 14."),
    )
    return Trajectory(began, policy.encode_chat(began.messages), turns)


def groups(policy):
    whole = Trajectory(
        WHOLE, policy.encode_chat(WHOLE.messages), (turn(policy, "3 + 5 = 8. The answer is 8."),)
    )
    one = talk(policy)
    short = replace(one, turns=one.turns[:3])
    return [
        Group(one.prompt, (one, short), (1.0, -1.0)),
        Group(WHOLE, (whole, whole), (0.0, 0.0)),
    ]


def read(policy, views):
    """The words that the teacher reads before each taught reply, and whether it is weighed."""
    rows = views.batch
    out = []
    for ids, mask, weighed in zip(rows.input_ids, rows.loss_mask, views.weighed, strict=True):
        first = int(mask.nonzero()[0]) + 1
        text = policy.tokenizer.decode(ids[:first].tolist(), skip_special_tokens=True)
        out.append((" ".join(text.replace("user", "").replace("assistant", "").split()), weighed))
    return [(words, bool(weighed)) for words, weighed in out]


def test_what_maigo_reads_turn_by_turn(policy):
    """While something lacks the user's own turns, then the whole problem; none of its guesses."""
    views = Distiller(policy, recipe(), [WHOLE]).views(groups(policy))
    question, ann, whole = FACTS[0].text, FACTS[1].text, WHOLE.messages[0].content
    assert read(policy, views) == [
        (question, True),
        (f"{question} {ann}", True),
        (whole, False),
        (question, True),
        (f"{question} {ann}", True),
        (whole, False),
        (whole, False),
    ]
    batch = collate(groups(policy), policy.pad_id)
    assert torch.equal(views.taught, batch.loss_mask)
    replies = batch.input_ids[:, 1:][views.taught]
    assert torch.equal(replies, views.batch.input_ids[:, 1:][views.batch.loss_mask])


def test_fic_teaches_what_has_all_and_leaves_the_rest_alone(policy):
    views = Distiller(policy, recipe("distill=fic"), [WHOLE]).views(groups(policy))
    assert read(policy, views) == [(WHOLE.messages[0].content, False)] * 3
    batch = collate(groups(policy), policy.pad_id)
    assert int(views.taught.sum()) < int(batch.loss_mask.sum())
    assert not (views.taught & ~batch.loss_mask).any()
    assert not views.taught[1].any(), "a conversation that ended before all was told"


def test_live_weights_do_not_teach_what_they_have_said(policy):
    """Nothing is cleaned before a first reply or a whole prompt's: they would say what they say."""
    views = Distiller(policy, recipe("teacher_model_kind=live"), [WHOLE]).views(groups(policy))
    second, whole = f"{FACTS[0].text} {FACTS[1].text}", WHOLE.messages[0].content
    assert read(policy, views) == [(second, True), (whole, False), (second, True)]
    assert not views.taught[2:].any()


@pytest.mark.parametrize("drops", [True, False])
def test_rows_that_nobody_speaks_of_have_no_gradient(policy, drops):
    """FiC, no rewards: not the conversation that ended before all was told. Without
    drop_zero_variance all rows have one."""
    distiller = Distiller(policy, recipe("distill=fic"), [WHOLE])
    batch = collate(groups(policy), policy.pad_id)
    batch = replace(batch, advantages=torch.zeros_like(batch.advantages))
    taught = distiller.taught(distiller.views(groups(policy)), OPTIONS, Size(8, None))
    learned = LearnedBatch(
        *(batch, batch.loss_mask, None, None, None),
        Schedules(recipe("distill=fic")).at(0).loss,
        OPTIONS,
        Size(8, None),
        taught=taught,
    )
    rows = torch.tensor([3, 1, 0])
    got = learned.with_and_without_gradient(batch.rows(rows), rows, drops)
    kept = [(index.tolist(), on) for index, on in got]
    assert kept == ([([0, 2], True), ([1], False)] if drops else [([0, 1, 2], True)])


def test_the_whole_problem_without_a_complete_prompt(policy):
    """No answers are needed: its shards tell it; a system turn stays; kept back facts stay out."""
    opening = (Message("system", "Solve the problem."),)
    began = prompt(("user", FACTS[0].text), opening=opening)
    one = talk(policy, replace(began, answer=None))
    got = Distiller(policy, recipe(), []).views([Group(began, (one,), (0.0,))])
    rows = [words for words, _ in read(policy, got)]
    assert rows[-1].endswith(" ".join(s.text for s in FACTS))
    assert all("Solve the problem." in words for words in rows)
    kept = replace(one, turns=(*one.turns[:3], replace(one.turns[3], told=()), one.turns[4]))
    got = Distiller(policy, recipe(), []).views([Group(began, (kept,), (0.0,))])
    assert [weighed for _, weighed in read(policy, got)] == [True] * 3


def test_reliability_by_hand():
    """log 0.5 a token below: likelihood 1/2; three of four tokens at least half as likely: 0.75."""
    sampled = torch.zeros(3, 4)
    teacher = torch.tensor([[-0.6931472] * 4, [0.5] * 4, [0.0, 0.0, -0.6, -4.0]])
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2:] = False
    got = reliability("likelihood", teacher, sampled, mask)
    torch.testing.assert_close(got, torch.tensor([0.5, 1.0, 0.3166368]), rtol=0, atol=1e-6)
    got = reliability("agreement", teacher + 1e-6, sampled, mask)
    assert got.tolist() == [1.0, 1.0, 0.75]
    assert reliability("none", teacher, sampled, mask).tolist() == [1.0] * 3
    unknown = torch.full_like(sampled, torch.nan)
    assert reliability("likelihood", teacher, unknown, mask).tolist() == [1.0] * 3


def test_a_token_counts_by_what_its_teacher_thinks_of_those_before_it(policy):
    """Half as likely, then twice and a quarter as likely: 1, 1/2, 1 and 1/4 before the last."""
    gaps = torch.tensor([[0.5, 2.0, 0.25, 7.0]]).log()
    mask = torch.ones(1, 4, dtype=torch.bool)
    got = prefix_weights(gaps, torch.zeros(1, 4), mask)
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.5, 1.0, 0.25]]))
    found = []
    for wish in ("true", "false"):
        distiller = Distiller(policy, recipe("distill=fic", f"distill_prefix={wish}"), [WHOLE])
        taught = distiller.taught(distiller.views(groups(policy)), OPTIONS, Size(8, None))
        found.append(taught.weights[taught.mask])
    assert (found[1] == 1).all()
    assert ((found[0] <= 1) & (found[0] < 1).any()).all()


def whole_logits(policy, batch):
    """[n, V] in float64 of the tokens under the mask, by transformers' own forward."""
    policy.set_training(False)
    out = policy.causal_lm(batch.input_ids, attention_mask=batch.attention_mask).logits
    return out[:, :-1][batch.loss_mask].double()


@pytest.mark.parametrize(
    ("mode", "alpha"),
    [("sampled_token", 1.0), ("topk", 1.0), ("full", 1.0), ("full", 0.0), ("full", 0.5)],
)
def test_the_loss_is_that_of_a_plain_implementation(policy, mode, alpha):
    """Value by value, from whole logits; and micro-batches add up to it."""
    keys = recipe(f"distillation_mode={mode}", f"distillation_alpha={alpha}", "distill_weight=0.7")
    keys = keys.but(distillation_topk=7)
    distiller = Distiller(policy, keys, [WHOLE])
    views, batch = distiller.views(groups(policy)), collate(groups(policy), policy.pad_id)
    taught = distiller.taught(views, OPTIONS, Size(3, None))
    kept = batch.loss_mask
    told = without_gradient(policy, batch, OPTIONS, 8, keep_hidden=True)
    hidden = told.hidden
    assert hidden is not None
    count = taught.count(torch.arange(4), kept)
    total = 0.0
    first = kept.sum(-1).cumsum(0) - kept.sum(-1)
    for rows in (torch.tensor([2, 0]), torch.tensor([1, 3])):
        states = torch.cat([hidden[first[r] : first[r] + kept[r].sum()] for r in rows])
        value, shown = distillation_loss(
            taught.of(rows, kept[rows]),
            policy,
            Schedules(keys).at(0).loss,
            (told.logps[rows], None, states),
            count,
            OPTIONS,
        )
        total += float(value)
    with torch.no_grad():
        own = whole_logits(policy, batch).log_softmax(-1)
        with policy.adapter_off():
            other = whole_logits(policy, views.batch).log_softmax(-1)
    ids = batch.input_ids[:, 1:][kept]
    at = torch.arange(len(ids))
    if mode == "sampled_token":
        values = (own - other)[at, ids] * own[at, ids]
    elif mode == "topk":
        top = own.topk(7).indices
        rest = [torch.log(1 - x.exp().gather(1, top).sum(1, keepdim=True)) for x in (own, other)]
        p, q = (
            torch.cat([x.gather(1, top), r], 1) for x, r in zip((own, other), rest, strict=True)
        )
        values = (p.exp() * (p - q)).sum(1)
    elif alpha in (0.0, 1.0):
        p, q = (own, other) if alpha else (other, own)
        values = (p.exp() * (p - q)).sum(1)
    else:
        mixed = (0.5 * own.exp() + 0.5 * other.exp()).log()
        values = sum(0.5 * (x.exp() * (x - mixed)).sum(1) for x in (own, other))
    wanted = 0.7 * float((taught.weights[kept] * values).sum()) / len(ids)
    assert total == pytest.approx(wanted, rel=2e-4, abs=1e-5)
    assert shown["distill/reliability"].total > 0


def test_a_sampled_token_pulls_as_the_kl_does_on_average():
    """Two tokens, p = (0.2, 0.8), q = (0.5, 0.5): the expected gradient is the KL's own."""
    z = torch.tensor([0.3, 1.7], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    logp = z.log_softmax(0)
    (exact,) = torch.autograd.grad((logp.exp() * (logp - q)).sum(), z)
    expected = torch.zeros_like(exact)
    for token in (0, 1):
        logp = z.log_softmax(0)
        surrogate = (logp[token] - q[token]).detach() * logp[token]
        expected += logp[token].exp().item() * torch.autograd.grad(surrogate, z)[0]
    torch.testing.assert_close(expected, exact, rtol=0, atol=1e-12)


def test_the_average_follows_and_changes_places(policy):
    distiller = Distiller(policy, recipe("teacher_model_kind=ema", "teacher_update_rate=0.25"), [])
    (name, weight), *_ = policy.trainable_named()
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1.0
    distiller.follow()
    torch.testing.assert_close(distiller.average[name], before + 0.25)
    with distiller._as_teacher():
        torch.testing.assert_close(weight.detach(), before + 0.25)
    torch.testing.assert_close(weight.detach(), before + 1.0)
    other = Distiller(policy, recipe("teacher_model_kind=ema"), [])
    other.restore({name: before})
    assert torch.equal(other.average[name], before)
    with torch.no_grad():
        weight.copy_(before)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rollout=single_turn"], "distill: maigo is of conversations"),
        (["distill=none"], "reward: none earns nothing"),
        (["dynamic_sampling=true"], "dynamic_sampling: true goes by rewards"),
        (["credit=gtpo"], "credit: gtpo goes by rewards"),
        (["shard_curriculum=rlaar"], "shard_curriculum: rlaar goes by rewards"),
        (["advantage=rae"], "advantage: rae goes by rewards"),
        (["advantage_shaping=aspo"], "advantage_shaping: aspo goes by rewards"),
        (["token_weights=d3s"], "token_weights: d3s goes by rewards"),
        (["group_rewards=win_rate"], "group_rewards: win_rate goes by rewards"),
        (["loss_type=reg_grpo"], "loss_type: reg_grpo goes by rewards"),
        (["distill_weight=0"], "expected a weight above 0"),
        (["distillation_mode=sampled_token", "distillation_alpha=0.5"], "expected 1, found 0.5"),
        (["distil=maigo"], "distill"),
        (["teacher_model_kind=frozen"], "base"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(overrides, said):
    with pytest.raises(RecipeError) as got:
        recipe(*overrides)
    assert said in str(got.value)
    assert "\n" not in str(got.value)


def test_a_weight_that_moves():
    keys = recipe("distill_weight=1.0", "distill_schedule={name: linear, last: 0.0}", "max_steps=4")
    moving = Schedules(keys)
    assert [moving.at(step).loss.distill_weight for step in (0, 2, 4)] == [1.0, 0.5, 0.0]
    assert moving.at(2).loss.distills
    assert not moving.at(4).loss.distills


def test_taught_rows_are_found_in_any_order():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    states = torch.arange(3.0)[:, None]
    taught = Taught(mask, torch.zeros(2, 3), torch.ones(2, 3), states)
    kept = torch.tensor([[True, True, False], [True, True, False]])
    got = taught.of(torch.tensor([1, 0]), kept)
    assert got.hidden is not None
    assert got.hidden.flatten().tolist() == [2.0, 0.0]
    assert got.among.tolist() == [False, True, True, False]
