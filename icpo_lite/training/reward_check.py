"""The reward tried on replies whose worth is known, before a run spends a day on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.errors import UsageError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Prompt, Turn, Verdict
from icpo_lite.data.point_questions import value_question
from icpo_lite.training.asking_demonstrations import asking_demonstration
from icpo_lite.training.said_answers import (
    WAYS,
    another_choice,
    fault,
    hedge,
    right_choice,
    ways_of_choosing,
    ways_of_saying,
)

if TYPE_CHECKING:
    from icpo_lite.core.types import RewardChange, RewardRule
    from icpo_lite.rewards.judge import Judge

#: The replies that are tried, in the order of the table.
PROBES = (
    *WAYS,
    *("wrong", "hedged", "targeted question", "untargeted question", "refusal", "empty"),
)
_ASKS = ("targeted question", "untargeted question")


@dataclass(frozen=True, slots=True)
class Probe:
    """One tried reply, how it was judged and what it earned."""

    name: str
    prompt: Prompt
    text: str
    verdict: Verdict
    reward: float


@dataclass(frozen=True, slots=True)
class Row:
    """Mean reward of one kind of reply on complete and on underspecified prompts.

    None where the sample holds no such prompt. types: how often each type was seen.
    """

    name: str
    complete: float | None
    underspecified: float | None
    types: dict[str, int]


@dataclass(frozen=True, slots=True)
class GuessRow:
    """What one dress of a guess beside a question earned on underspecified prompts.

    mean and most: over all prompts and lengths. text: the reply that earned most.
    """

    name: str
    mean: float
    most: float
    text: str
    types: dict[str, int]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The table, and what speaks against starting (problems) or for a second look (warnings).

    guesses: one row a dress of `guess_attacks`, empty where they were not tried.
    """

    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    guesses: tuple[GuessRow, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """The table as text, one row a line."""
        head = f"{'reply':<20}  {'complete q':>10}  {'underspec. q*':>13}  judged as"
        return [head, *(_line(row) for row in self.rows)]

    def guess_lines(self) -> list[str]:
        """What each guess beside a question earns, as text; nothing where none was tried."""
        if not self.guesses:
            return []
        head = f"{'guess beside a question':<24}  {'mean':>6}  {'most':>6}  judged as"
        return [head, *(_guess_line(row) for row in self.guesses)]

    def require_ok(self) -> None:
        """Raises UsageError with the first problem where there is one."""
        if self.problems:
            raise UsageError(f"the reward fails its self-test: {self.problems[0]}")


def _line(row: Row) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:+.2f}"

    underspecified = shown(row.underspecified)
    return f"{row.name:<20}  {shown(row.complete):>10}  {underspecified:>13}  {_kinds(row.types)}"


def _guess_line(row: GuessRow) -> str:
    return f"{row.name:<24}  {row.mean:>+6.2f}  {row.most:>+6.2f}  {_kinds(row.types)}"


def _kinds(types: dict[str, int]) -> str:
    return ", ".join(f"{k} {n}" for k, n in sorted(types.items(), key=lambda kv: -kv[1]))


def check_reward(
    prompts: Sequence[Prompt],
    judge: Judge,
    reward: RewardRule,
    *,
    change: RewardChange | None = None,
    sample: int = 64,
    guesses: int = 0,
    guess_limit: float | None = None,
) -> CheckReport:
    """Try a reward on a sample of a corpus.

    prompts: of the run; `sample` of them are taken, half of each kind where both occur.
    reward: what training calls. change: what is then made of it by the user's own functions.
    guesses: underspecified prompts on which every guess of `guess_attacks` is tried. guess_limit:
    the share of an honest question's worth that the reward's rule leaves to one; None only warns.
    Raises UsageError without prompts; GraderError from a grader or a user's function.
    """
    if not prompts:
        raise UsageError("expected prompts to try the reward on, found none; check the corpus")
    spoilt = [(p, why) for p in prompts if (why := _spoilt(p))]
    bad = {p.prompt_id for p, _ in spoilt}
    usable = [p for p in prompts if p.prompt_id not in bad]
    tried = _sample(usable, sample)
    probes = _earned([(p, *named) for p in tried for named in _replies(p)], judge, reward, change)
    guessed = _earned(list(_guesses(tried, guesses)), judge, reward, change)
    problems = [*_told(spoilt, prompts), *_problems(probes)]
    warnings = list(_warnings(probes))
    found = list(_paid_guesses(probes, guessed, guess_limit))
    (warnings if guess_limit is None else problems).extend(found)
    return CheckReport(
        rows=tuple(_row(name, [p for p in probes if p.name == name]) for name in PROBES),
        problems=tuple(problems),
        warnings=tuple(warnings),
        guesses=tuple(_guess_rows(guessed)),
    )


def _earned(
    replies: Sequence[tuple[Prompt, str, str]],
    judge: Judge,
    reward: RewardRule,
    change: RewardChange | None,
) -> list[Probe]:
    """Each (prompt, name, text) with its verdict and what it earns."""
    if not replies:
        return []
    asked = [p for p, _, _ in replies]
    verdicts = judge.judge_many([(p, text, "eos") for p, _, text in replies])
    turns = [_turn(text, v) for (_, _, text), v in zip(replies, verdicts, strict=True)]
    rewards = [reward(p, v, t) for p, v, t in zip(asked, verdicts, turns, strict=True)]
    if change is not None:
        rewards = change(rewards, asked, turns)
    return [
        Probe(name, p, text, v, r.total)
        for (p, name, text), v, r in zip(replies, verdicts, rewards, strict=True)
    ]


def _spoilt(prompt: Prompt) -> str:
    """What is wrong with a gold answer as it is written; "" for nothing."""
    if prompt.task != "math" or prompt.answer is None or right_choice(prompt):
        return ""
    return fault(prompt.answer)


def _told(spoilt: Sequence[tuple[Prompt, str]], prompts: Sequence[Prompt]) -> Iterator[str]:
    """The gold answers of the whole corpus that no right reply can match, as one problem."""
    if spoilt:
        first, why = spoilt[0]
        yield (
            f"expected gold answers that a right reply can match, found {len(spoilt)} of "
            f"{len(prompts)} that none can, first {first.source or first.prompt_id}: "
            f"{str(first.answer)[:60]!r}, {why}; write the answer alone"
        )


def _sample(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Every n-th prompt of each kind, so that the whole corpus is touched."""
    chosen: list[Prompt] = []
    kinds = [[p for p in prompts if p.intent is intent] for intent in Intent]
    wanted = max(1, count // max(1, sum(bool(kind) for kind in kinds)))
    for kind in kinds:
        chosen += kind[:: max(1, len(kind) // wanted)][:wanted]
    return chosen


def _turn(text: str, verdict: Verdict) -> Turn:
    """Token ids stand in for length: about one a word, as no tokenizer is loaded here."""
    return Turn("assistant", text, tuple(range(len(text.split()))), (), "eos", verdict)


def _row(name: str, probes: Sequence[Probe]) -> Row:
    types: dict[str, int] = {}
    for probe in probes:
        kind = probe.verdict.response_type.value
        types[kind] = types.get(kind, 0) + 1
    return Row(name, _mean(probes, Intent.COMPLETE), _mean(probes, Intent.UNDERSPECIFIED), types)


def _mean(probes: Sequence[Probe], intent: Intent) -> float | None:
    rewards = [p.reward for p in probes if p.prompt.intent is intent]
    return sum(rewards) / len(rewards) if rewards else None


# ------------------------------------------------------------------------------------- verdicts


def _problems(probes: Sequence[Probe]) -> Iterator[str]:
    complete = [p for p in probes if p.prompt.intent is Intent.COMPLETE]
    for name in WAYS:
        gold = [p for p in complete if p.name == name]
        failing = [p for p in gold if not p.verdict.correct]
        if failing:
            first = failing[0]
            kind = first.verdict.response_type.value
            yield (
                f"expected every gold answer to be graded right, found {len(failing)} of "
                f"{len(gold)} that are not, first {first.prompt.source or first.prompt.prompt_id}: "
                f"{first.text[:80]!r} was judged {kind} against {str(first.prompt.answer)[:60]!r}; "
                "check the answer column and the task"
            )
            break
    if probes and len({round(p.reward, 9) for p in probes}) == 1:
        yield (
            f"expected a reward that tells replies apart, found {probes[0].reward:g} for all "
            "of them; nothing would be learned"
        )
    yield from _complete_problems(complete)


def _complete_problems(complete: Sequence[Probe]) -> Iterator[str]:
    means = {
        name: _mean([p for p in complete if p.name == name], Intent.COMPLETE) for name in PROBES
    }
    gold = means["gold"]
    if gold is None:
        return
    for name in _ASKS:
        if (asking := means[name]) is not None and asking >= gold:
            yield (
                f"expected the right answer to earn more than a question on complete prompts, "
                f"found {gold:g} against {asking:g} ({name}); it would learn to ask always"
            )
    if (wrong := means["wrong"]) is not None and wrong >= gold:
        yield f"expected right to earn more than wrong, found {gold:g} against {wrong:g}"


def _warnings(probes: Sequence[Probe]) -> Iterator[str]:
    lacking = [p for p in probes if p.prompt.intent is Intent.UNDERSPECIFIED]
    means = {
        name: _mean([p for p in lacking if p.name == name], Intent.UNDERSPECIFIED)
        for name in PROBES
    }
    targeted, refusal = means["targeted question"], means["refusal"]
    if targeted is None or refusal is None:
        return
    if refusal >= targeted:
        yield (
            f"on underspecified prompts a refusal earns {refusal:g}, as much as the right question "
            f"({targeted:g}): refusing everything would do"
        )
    if (wrong := means["wrong"]) is not None and wrong >= targeted:
        yield (
            f"on underspecified prompts an invented answer earns {wrong:g}, as much as the right "
            f"question ({targeted:g}): nothing speaks for asking"
        )
    untargeted = [
        p for p in lacking if p.name == "targeted question" and p.verdict.targeted is False
    ]
    if 4 * len(untargeted) > len([p for p in lacking if p.name == "targeted question"]):
        yield (
            f"{len(untargeted)} questions made from removed facts were not seen as targeted, first "
            f"{untargeted[0].text!r}; the judge may not fit this corpus"
        )


def _guesses(tried: Sequence[Prompt], count: int) -> Iterator[tuple[Prompt, str, str]]:
    """Prompt, name and text of each guess on the first `count` underspecified problems of math.

    Their prompts alone have numbers as answers; elsewhere a guess is a call or a query, which the
    other probes try.
    """
    from icpo_lite.rewards.guess_attacks import attacks

    lacking = [p for p in tried if p.intent is Intent.UNDERSPECIFIED and p.task == "math"]
    for prompt in lacking[:count]:
        for name, text in attacks(prompt, _question(prompt)):
            yield prompt, name, text


def _guess_rows(guessed: Sequence[Probe]) -> Iterator[GuessRow]:
    for name in dict.fromkeys(p.name for p in guessed):
        mine = [p for p in guessed if p.name == name]
        best = max(mine, key=lambda p: p.reward)
        mean = sum(p.reward for p in mine) / len(mine)
        yield GuessRow(name, mean, best.reward, best.text, _row(name, mine).types)


#: Where the reward's own rule says nothing, a guess is warned of from this share on.
_WARN_FROM = 0.3


def _paid_guesses(
    probes: Sequence[Probe], guessed: Sequence[Probe], limit: float | None
) -> Iterator[str]:
    """What is wrong with a reward that pays a guess more than its share of an honest question.

    Both are counted from what an invented answer earns, so that a constant that somebody's own
    function adds changes nothing.
    """
    lacking = [p for p in probes if p.prompt.intent is Intent.UNDERSPECIFIED]
    floor = _mean([p for p in lacking if p.name == "wrong"], Intent.UNDERSPECIFIED)
    honest = [p.reward for p in lacking if p.name == "targeted question"]
    if not guessed or floor is None or not honest:
        return
    share = _WARN_FROM if limit is None else limit
    most = floor + share * (max(honest) - floor)
    worst = max(guessed, key=lambda p: p.reward)
    if worst.reward > most + 1e-9:
        names = dict.fromkeys(p.name for p in guessed if p.reward > most + 1e-9)
        yield (
            f"expected a guess beside a question to earn at most {most:.2f}, {share:g} of what the "
            f"honest question earns ({max(honest):.2f}), found {worst.reward:.2f} for "
            f"{worst.text!r} and {len(names)} of {len({p.name for p in guessed})} forms paid so; "
            "lower the reward's worth of it (guarded: reward.guessed)"
        )


# --------------------------------------------------------------------------------------- replies


def _replies(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """Name and text of each reply that is tried on a prompt; no right one where none is known."""
    yield from _ungraded(prompt) if prompt.answer is None else _graded(prompt)
    yield "targeted question", _question(prompt)
    yield "untargeted question", "Could you tell me more about this task?"
    yield "refusal", "I cannot answer this."
    yield "empty", ""


def _ungraded(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """What sets about a task whose answer nobody knows."""
    yield "wrong", "The answer is 5." if prompt.task == "math" else _SOME_ANSWER


_SOME_ANSWER = "Here it is: begin with the first part, then do the second one, and you are done."


def _graded(prompt: Prompt) -> Iterator[tuple[str, str]]:
    """The right answer in the ways in which it is said, a wrong one, and both at once."""
    gold, wrong = _answers(prompt)
    hedged = f"It could be this or that.\n{gold}\nOr, if something else was meant:\n{wrong}"
    if prompt.task == "math":
        hedged = hedge(wrong, gold)
    if choice := right_choice(prompt):
        yield from ways_of_choosing(*choice).items()
    elif prompt.task == "math":
        yield from ways_of_saying(prompt.answer).items()
    elif gold:
        yield "gold", gold
    yield "wrong", wrong
    if gold:
        yield "hedged", hedged


def _answers(prompt: Prompt) -> tuple[str, str]:
    """A right and a wrong reply, in the task's form; no right one for code without a solution."""
    answer = prompt.answer
    if choice := right_choice(prompt):
        return f"The answer is {choice[0]}.", f"The answer is {another_choice(prompt)}."
    if prompt.task == "math":
        gold = str(answer).rpartition("####")[2].strip()
        wrong = re.sub(r"\d+", lambda m: str(int(m[0]) + 1), gold)
        wrong = wrong if wrong != gold else f"{gold} + 1"
        shown = gold if numbers(gold) and "\\" not in gold else f"\\boxed{{{gold}}}"
        return f"The answer is {shown}.", f"The answer is {wrong}."
    if prompt.task == "actions":
        from icpo_lite.rewards.graders.actions import gold_text

        return gold_text(answer), "[no_such_function(x=1)]"
    if prompt.task == "code":
        reference = prompt.solution or str(prompt.columns.get("canonical_solution", ""))
        gold = f"```python\n{_bare(reference)}\n```" if reference.strip() else ""
        return gold, "```python\nraise SystemExit(1)\n```"
    return f"```sql\n{answer}\n```", "```sql\nSELECT 'no such row'\n```"


def _bare(source: str) -> str:
    match = re.search(r"```[^\n]*\n(.*?)```", source, re.DOTALL)
    return match[1] if match else source


def _question(prompt: Prompt) -> str:
    """A question about a fact: a removed one, or one that is there when none is.

    The question that is shown as a demonstration, where there is one; else the fact itself is
    turned into a question by taking out its numbers.
    """
    if asked := asking_demonstration(prompt):
        return asked
    facts = prompt.removed or tuple(s for s in prompt.shards if not s.is_question)
    if not facts:
        return "Could you tell me how many there are?"
    asks = prompt.columns.get("asks")
    if asks and 0 < facts[0].shard_id <= len(asks):
        return str(asks[facts[0].shard_id - 1])
    if prompt.task != "math":
        return _task_question(prompt, facts[0].text)
    from icpo_lite.rewards.fact_reading import number_clauses

    clause = number_clauses(facts[0].text)[0]
    for number in reversed(numbers(clause)):
        clause = f"{clause[: number.start]}how many{clause[number.end :]}"
    return f"Could you tell me: {clause.strip().rstrip('.?!')}?"


def _task_question(prompt: Prompt, fact: str) -> str:
    """A question about a fact of an actions, database or code task ("The year is 2014.")."""
    if question := value_question(fact):
        return question
    if prompt.task == "code":
        return "What should the function do?"
    return f"Could you tell me more about this: {fact.rstrip('.?!')}?"
