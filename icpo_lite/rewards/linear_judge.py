"""Response types by a small linear model, where no hard evidence of the rules decides.

`tools/train_judge.py` fits it on labelled turns; here its weights are added up, with numpy alone.
A reply that says nothing, a short reply, a bare call and a task that the model has never seen stay
with the rules. For the rest two sums decide: whether the reply is an answer attempt (above 0), and
if not, which of the other types weighs most.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from icpo_lite.core.errors import ModelError
from icpo_lite.core.types import Prompt, ResponseType, StopReason, TaskName
from icpo_lite.rewards.feature_weights import COLUMNS
from icpo_lite.rewards.linear_features import character_grams, facts, shown, word_grams
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.response_type import Classification, explain

ASSET = Path(__file__).parents[1] / "assets" / "judge" / "linear.safetensors"
#: Version of the asset's form, and of what `linear_features` reads off a reply.
FORM = 1
#: The columns of the weights: answer attempt against the rest, then the kinds of the rest.
KINDS = COLUMNS


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The facts and n-grams that have a weight; each has its place among all F of them."""

    facts: tuple[str, ...]
    words: tuple[str, ...]
    characters: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.facts) + len(self.words) + len(self.characters)

    def name(self, place: int) -> str:
        """What stands at a place, as evidence shows it."""
        if place < len(self.facts):
            return self.facts[place]
        place -= len(self.facts)
        if place < len(self.words):
            return repr(self.words[place])
        return repr(shown(self.characters[place - len(self.words)]))


class Encoder:
    """Turns a reply into places and values of the features that a vocabulary knows."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        facts_end = len(vocabulary.facts)
        words_end = facts_end + len(vocabulary.words)
        self._facts = {name: i for i, name in enumerate(vocabulary.facts)}
        self._words = {gram: i for i, gram in enumerate(vocabulary.words, start=facts_end)}
        self._characters = np.array(vocabulary.characters, dtype=np.uint64)
        self._words_end = words_end

    def encode(
        self, facts: Mapping[str, float], words: Set[str], characters: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places and values; the n-grams of words, and those of characters, have length 1."""
        told = {self._facts[name]: v for name, v in facts.items() if v and name in self._facts}
        held = sorted([self._words[gram] for gram in self._words.keys() & words])
        spelled = self._words_end + _found(self._characters, characters)
        places = np.concatenate([np.array([*told, *held], dtype=np.intp), spelled])
        values = np.empty(len(places), dtype=np.float32)
        ends = len(told), len(told) + len(held)
        values[: ends[0]] = list(told.values())
        values[ends[0] : ends[1]] = max(1, len(held)) ** -0.5
        values[ends[1] :] = max(1, len(spelled)) ** -0.5
        return places, values


def _found(known: np.ndarray, grams: np.ndarray) -> np.ndarray:
    """Places in `known` of those n-grams that it holds; both are in order."""
    if not len(known):
        return np.empty(0, dtype=np.intp)
    at = np.searchsorted(known, grams)
    at[at == len(known)] = 0
    return at[known[at] == grams]


class LinearModel:
    """Weights [F, 6] and biases [6] of each task, float32; the columns are KINDS.

    counted: tasks whose labels hold too few interrogations to learn one from; there a second
    question makes it one.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        weights: Mapping[str, np.ndarray],
        biases: Mapping[str, np.ndarray],
        counted: Iterable[str] = (),
    ) -> None:
        self.vocabulary = vocabulary
        self.weights, self.biases, self.counted = weights, biases, frozenset(counted)
        self._encoder = Encoder(vocabulary)

    def type_of(self, reply: str, task: TaskName) -> Classification:
        """The type of a reply; of equal sums the first in KINDS wins."""
        return self.decide(
            reply, task, facts(reply, task), word_grams(reply), character_grams(reply)
        )

    def decide(
        self,
        reply: str,
        task: TaskName,
        facts: Mapping[str, float],
        words: Set[str],
        characters: np.ndarray,
    ) -> Classification:
        """The type of a reply whose features are known."""
        places, values = self._encoder.encode(facts, words, characters)
        added = self.weights[task][places] * values[:, None]
        scores = self.biases[task] + added.sum(axis=0, dtype=np.float64)
        answers = bool(scores[0] > 0)
        column = 0 if answers else 1 + int(scores[1:].argmax())
        kind = KINDS[column]
        if task in self.counted and kind in QUESTIONS:
            kind = QUESTIONS[len(asked(reply)) > 1]
        evidence = f"no feature known (answer score {scores[0]:+.1f})"
        if len(places):
            strongest = self.vocabulary.name(int(places[added[:, column].argmax()]))
            evidence = f"{strongest} (answer score {scores[0]:+.1f})"
        return Classification(kind, evidence, committed=answers, weighed=True)


#: A question, and several.
QUESTIONS = (ResponseType.CLARIFICATION, ResponseType.INTERROGATION)


def save(model: LinearModel, card: Mapping[str, Any], file: Path) -> None:
    """Write the weights, in float16, and beside them the card as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tasks = sorted(model.weights)
    vocabulary = model.vocabulary
    arrays = {
        "weights": np.stack([model.weights[t] for t in tasks]).astype(np.float16),
        "biases": np.stack([model.biases[t] for t in tasks]).astype(np.float32),
        "facts": _packed(vocabulary.facts),
        "words": _packed(vocabulary.words),
        "characters": np.array(vocabulary.characters, dtype=np.uint64),
    }
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file)
    fixed = {"form": FORM, "tasks": tasks, "counted": sorted(model.counted)}
    text = json.dumps({**fixed, **card}, indent=2, ensure_ascii=False)
    file.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def load(file: Path = ASSET) -> LinearModel:
    """The model that `save` wrote. Raises ModelError where the file is none, or of another form."""
    try:
        card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        stored = load_file(file)
        if card["form"] != FORM:
            raise ModelError(
                f"{file.name}: expected a judge of form {FORM}, found {card['form']}; train it "
                "again with python -m icpo_lite.tools.train_judge"
            )
        weights = stored["weights"].astype(np.float32)
        vocabulary = Vocabulary(
            _names(stored["facts"]), _names(stored["words"]), tuple(stored["characters"].tolist())
        )
        tasks = {task: i for i, task in enumerate(card["tasks"])}
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ModelError(f"expected a linear judge at {file}, found {error}") from error
    return LinearModel(
        vocabulary,
        {task: weights[i] for task, i in tasks.items()},
        {task: stored["biases"][i] for task, i in tasks.items()},
        card["counted"],
    )


def _packed(names: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def _names(packed: np.ndarray) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode().split("\n"))


@lru_cache(maxsize=1)
def shipped() -> LinearModel:
    """The model that comes with the package."""
    return load()


class LinearTyper:
    """Types by hard evidence of the rules, else by a linear model.

    model: by default the shipped one, which is read when the first reply needs it.
    """

    def __init__(self, model: LinearModel | None = None) -> None:
        self._model = model

    def types(self, items: Sequence[tuple[Prompt, str, StopReason | None]]) -> list[Classification]:
        """One type an item, in order."""
        return [self._type(prompt, reply) for prompt, reply, _ in items]

    def _type(self, prompt: Prompt, reply: str) -> Classification:
        by_rules = explain(reply, task=prompt.task, shards=prompt.shards)
        if not by_rules.weighed:
            return by_rules
        return _weighed(self._model or shipped(), reply, prompt.task) or by_rules


@lru_cache(maxsize=16384)
def _weighed(model: LinearModel, reply: str, task: TaskName) -> Classification | None:
    """The model's type, or nothing where it has never seen the task."""
    return model.type_of(reply, task) if task in model.weights else None
