"""Turns in plain style for the training of a judge: made by rule, of 40 to 120 words.

Labelled turns come from chat models, which write headings, lists and formulas. A reply in plain
sentences, such as a small model's, looks like none of them. Each turn here takes a problem of the
built-in world, tells its facts, and then does what its type says; the wordings are ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from icpo_lite.core.types import ResponseType
from icpo_lite.data.tiny_world import WorldProblem, draw_problem, templates_of

OPENINGS = (
    "Let me go through this one step at a time.",
    "Here is how I read the problem.",
    "This is what we are told so far.",
    "Thanks, that helps a little.",
    "Okay, let us see what there is.",
    "",
)
PADDING = (
    "These {o} are the only things that count here.",
    "Nothing is said about anybody else.",
    "All of this happens on the same day.",
    "The rest of the story changes nothing about the {o}.",
    "That much is clear from the text, and it is all used below.",
)
#: Ends of answers that ask for nothing: courtesies must not look like questions.
CLOSINGS = (
    "Let me know if you would like to see it another way!",
    "Would you like help with another one?",
    "Feel free to ask if anything is unclear.",
    "If you have more problems like this, just send them.",
    "I hope this helps!",
    "Does that make sense?",
    "Please note that no {o} are counted twice.",
)
TELLS = (
    "So the number that was asked for is {n}.",
    "That leaves us with {n} {o}.",
    "There are {n} {o} in the end.",
    "It comes to {n} {o}.",
    "Assuming that nothing else happens, it is {n} {o}.",
)
LACKS = (
    "One number is not in the text, and without it I am stuck.",
    "Before I can finish there is one thing left that the problem does not say.",
    "What I cannot see in there is a single detail.",
    "For the last step something is missing.",
)
LACKS_MORE = (
    "A few numbers are not in the text, and without them I am stuck.",
    "Before I can finish there are some things left that the problem does not say.",
    "What I cannot see in there are several details.",
)
REFUSALS = (
    "The question cannot be answered as it stands, so no number is given here.",
    "There is no way to tell from this text, and I will not guess.",
    "I am sorry, but this does not allow any answer at all.",
    "Nothing in the text settles it, so an answer is impossible.",
)
METHODS = (
    "One writes down what everybody starts with and keeps a list of what comes and goes.",
    "What is bought or given is added, and what is lost or eaten is taken away.",
    "It helps to go through the story in its order and to keep a running total.",
    "A drawing with a row for every person makes such a story easier to follow.",
    "In the end the total of the list is what the question is after.",
    "Most mistakes come from counting the same {o} twice.",
)


def plain_turns(count: int, *, seed: int = 0) -> Iterator[tuple[ResponseType, str]]:
    """`count` turns, the types in turn; equal arguments give equal turns."""
    kinds = list(_SAYS)
    templates = templates_of("train")
    for index in range(count):
        rng = random.Random(f"judge/{seed}/{index}")
        drawn = draw_problem(rng.choice(templates), "train", rng, every_wording=True)
        kind = kinds[index % len(kinds)]
        yield kind, _turn(drawn, _SAYS[kind](drawn, rng), rng)


def _turn(drawn: WorldProblem, said: list[str], rng: random.Random) -> str:
    """What is said, after the facts and as much else as makes it 40 words."""
    before = [rng.choice(OPENINGS), *drawn.facts]
    padding = rng.sample(PADDING, len(PADDING))
    while padding and len(" ".join([*before, *said]).split()) < rng.randint(41, 60):
        before.append(padding.pop())
    text = " ".join(part for part in [*before, *said] if part)
    return text.format(o=drawn.words["o"])


def _answer(drawn: WorldProblem, rng: random.Random) -> list[str]:
    steps = drawn.solution.rpartition("The answer is")[0]
    closing = rng.choice([*CLOSINGS, ""])
    return [steps.strip(), rng.choice(TELLS).replace("{n}", str(drawn.answer)), closing]


def _clarification(drawn: WorldProblem, rng: random.Random) -> list[str]:
    return [rng.choice(LACKS), rng.choice(drawn.asks)]


def _interrogation(drawn: WorldProblem, rng: random.Random) -> list[str]:
    many = rng.sample(drawn.asks, min(len(drawn.asks), rng.randint(2, 3)))
    return [rng.choice(LACKS_MORE), *many]


def _discussion(drawn: WorldProblem, rng: random.Random) -> list[str]:
    return rng.sample(METHODS, rng.randint(3, 5))


def _hedging(drawn: WorldProblem, rng: random.Random) -> list[str]:
    low, high = drawn.answer, drawn.answer + rng.randint(1, 4)
    person = drawn.words["a"]
    return [
        f"If {person} keeps the ones from before, there are {high} {{o}}.",
        f"If not, there are {low} {{o}}.",
        f"So it is {low} or {high}, depending on what is meant.",
    ]


def _refusal(drawn: WorldProblem, rng: random.Random) -> list[str]:
    return rng.sample(REFUSALS, 2)


_SAYS: dict[ResponseType, Callable[[WorldProblem, random.Random], list[str]]] = {
    ResponseType.ANSWER_ATTEMPT: _answer,
    ResponseType.CLARIFICATION: _clarification,
    ResponseType.INTERROGATION: _interrogation,
    ResponseType.DISCUSSION: _discussion,
    ResponseType.HEDGING: _hedging,
    ResponseType.REFUSAL: _refusal,
}
