"""What the learned judge of targets reads off a question and the statements of a problem.

Two kinds of numbers, each with a name. Of a question and one statement (`STATEMENT`): how well the
words of the two meet by their vectors, against the other statements', and whether quantity, people,
places and numbers agree, as the rules find them. Of a question alone (`QUESTION`): what it wants,
how it asks, where the rules find that it points, how much of it nothing in the problem is like.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from icpo_lite.core.types import Shard
from icpo_lite.core.words import bag, content_words
from icpo_lite.rewards import word_vectors
from icpo_lite.rewards.fact_likeness import likeness
from icpo_lite.rewards.fact_reading import Asked, Fact, Frame, read_frame, read_question
from icpo_lite.rewards.near_misses import near_miss
from icpo_lite.rewards.quantity_fit import fit
from icpo_lite.rewards.rule_targets import points_at
from icpo_lite.rewards.subject_keys import KIN

#: Words of content that every question may be made of.
_FILLER = bag(
    "tell let know need needs give say said thing things exact exactly sure check mind want like "
    "quick figure number help able put start begin before after during until still yet bit more "
    "kindly going go don doesn isn can't cannot what's i'm it's okay hello thanks "
    "most least precisely actually currently roughly"
)
SORTS = (
    "money", "time", "length", "weight", "volume", "area", "temperature", "speed", "share",
    "count", "age", "factor", "clock", "frequency", "amount",
)  # fmt: skip
STATEMENT = (
    "met", "met in full", "met better", "met best", "met worse", "met worst", "least met",
    "next least met", "covered", "covered closely", "counted", "fit", "misfit", "same people",
    "other people", "each", "compared", "not compared", "place", "number beside", "own number",
    "keys of the question", "keys of the statement", "keys of its phrase", "likeness", "task",
    "no sort shared",
)  # fmt: skip
#: Where the rules may find that a question points.
PLACES = ("removed", "given", "goal", "elsewhere")
QUESTION = (
    "strange", "strangest", "strange words", "unlike words", "measurable", "no sort", "yes or no",
    "opens as yes or no", "no quantity", "how many", "how much", "near miss", "one sort",
    "other sort", "quotes what is vague", "quotes a fact", "several removed",
    *(f"rules: {place}" for place in PLACES),
    *(f"{who} {sort}" for who in ("wants", "lacks", "wants and lacks") for sort in SORTS),
)  # fmt: skip

#: Cosines from which two words are close, and under which a word is strange to a problem.
_CLOSE, _UNLIKE, _STRANGE = 0.6, 0.6, 0.45
#: Told of a statement whose numbers count nothing by name.
_UNNAMED = 0.3

_YES_OR_NO = re.compile(
    r"(?:^|[,;:.!—–-]\s|\b(?:and|so|but)\s)\W*(?:is|are|was|were|do|does|did|has|have|had|can"
    r"|could|will|would|should)\s+(?!you\b|i\b|we\b)",
    re.IGNORECASE,
)
_ASKS_WHAT = re.compile(r"\b(?:how|what|which|who|where|when|why)\b", re.IGNORECASE)
NO_QUANTITY = re.compile(
    r"\b(?:who|whose|where|why|(?:what|which) (?:kind|sort|type|colou?r|name|brand|flavou?r|day"
    r"|month|year)|when(?= (?:is|was|did|does|do|will)))\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“‘']([^\"”’']{3,80})[\"”’'](?!\w)")


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of a problem, removed ones first, the task last, with their words' vectors.

    places: of each word among `words`, statement by statement; its clause and its whole text. The
    first of each statement's is the blank word, so that none is empty. starts: where each begins.
    weights: of the words of the clauses, the less the more statements have them.
    """

    frame: Frame
    words: dict[str, int]
    vectors: np.ndarray
    clauses: tuple[np.ndarray, np.ndarray]
    texts: tuple[np.ndarray, np.ndarray]
    counted: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    given: str


def content(text: str) -> list[str]:
    """Stems of the words that tell what a text is about, in order of the alphabet."""
    return sorted(s for s in content_words(text) if len(s) > 1 and s not in _FILLER_STEMS)


_FILLER_STEMS = content_words(" ".join(_FILLER))


@lru_cache(maxsize=4096)
def read_statements(
    removed: tuple[Shard, ...], shards: tuple[Shard, ...], prompt_text: str
) -> Statements:
    """All that a problem states, ready to be compared with questions."""
    frame = read_frame(removed, shards, prompt_text)
    facts = frame.facts
    clauses = [content(f.said or f.text) for f in facts]
    texts = [content(f.text or f.said) for f in facts]
    counted = [[w for w in t if w in f.tells.nouns] for t, f in zip(texts, facts, strict=True)]
    words = {"": 0}
    for word in (w for part in (*clauses, *texts) for w in part):
        words.setdefault(word, len(words))
    held = Counter(w for part in clauses for w in part)
    vectors = word_vectors.shipped()
    weights = [v for part in clauses for v in (0.0, *(vectors.weight(w) / held[w] for w in part))]
    gone = {s.shard_id for s in removed}
    given = " ".join(s.text for s in shards if s.shard_id not in gone)
    return Statements(
        frame,
        words,
        vectors.rows(list(words)),
        _laid_out(clauses, words),
        _laid_out(texts, words),
        _laid_out(counted, words),
        np.array(weights, dtype=np.float32),
        given.lower(),
    )


def _laid_out(
    parts: Sequence[Sequence[str]], words: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(places, starts) of the words of each part, the blank word before them."""
    places = [place for part in parts for place in (0, *(words[w] for w in part))]
    starts = np.cumsum([0, *(len(part) + 1 for part in parts)])[:-1]
    return np.array(places, dtype=np.intp), starts


@dataclass(frozen=True, slots=True)
class Read:
    """A question read against a problem. statements [S, len(STATEMENT)]: a row for each, removed
    ones first, the task last. question [len(QUESTION)]. asked: as the rules read it.
    """

    statements: np.ndarray
    question: np.ndarray
    asked: Asked


def read_features(unit: str, reply: str, prompt_text: str, problem: Statements) -> Read:
    """All features of a question. reply: where it stands; what that quotes is looked up."""
    frame = problem.frame
    asked = read_question(unit, frame)
    met, strange = _met(content(unit), problem)
    agreeing = np.array([_agrees(asked, fact, frame) for fact in frame.facts], dtype=np.float32)
    question = [*strange, *_of_question(unit, reply, prompt_text, asked, problem)]
    return Read(np.hstack([met, agreeing]), np.array(question, dtype=np.float32), asked)


def _met(words: Sequence[str], problem: Statements) -> tuple[np.ndarray, tuple[float, ...]]:
    """How the words of a question meet those of each statement [S, 11], and what they leave over.

    The cosine of two words' vectors, 0 where it is negative, 1 for the same word.
    """
    count = len(problem.clauses[1])
    if not words:
        return np.zeros((count, 11), dtype=np.float32), (0.0, 0.0, 0.0, 0.0)
    vectors = word_vectors.shipped()
    near = _near(words, problem)
    weight = np.array([vectors.weight(w) for w in words], dtype=np.float32)
    share = weight / weight.sum()
    best = np.maximum.reduceat(near[:, problem.clauses[0]], problem.clauses[1], axis=1)
    full = np.maximum.reduceat(near[:, problem.texts[0]], problem.texts[1], axis=1)
    others = _best_of_others(best)
    better, worse = np.clip(best - others, 0, 1), np.clip(others - full, 0, 1)
    least = np.sort(full, axis=0)
    anywhere = full.max(1)
    columns = [
        share @ best,
        share @ full,
        share @ better,
        (better * weight[:, None]).max(0),
        share @ worse,
        (worse * weight[:, None]).max(0),
        least[0],
        least[1] if len(words) > 1 else np.ones(count),
        *_covered(near.max(0), problem),
        _named(near.max(0), problem),
    ]
    left = (
        float(share @ (1 - anywhere)),
        float(((1 - anywhere) * weight).max()),
        float((anywhere < _STRANGE).sum()),
        float((anywhere < _UNLIKE).sum()),
    )
    return np.stack(columns, axis=1).astype(np.float32), left


def _near(words: Sequence[str], problem: Statements) -> np.ndarray:
    """[n, N]: how near each word is to each of the problem's."""
    near = np.clip(word_vectors.shipped().rows(words) @ problem.vectors.T, 0, 1)
    for row, word in enumerate(words):
        if (place := problem.words.get(word)) is not None:
            near[row, place] = 1
    return near


def is_strange(text: str, problem: Statements) -> bool:
    """Whether no word of a text is like any of a problem."""
    words = content(text)
    return not words or float(_near(words, problem).max()) < _STRANGE


def _best_of_others(best: np.ndarray) -> np.ndarray:
    """[n, S]: the most that any other statement has."""
    if best.shape[1] < 2:
        return np.zeros_like(best)
    ordered = np.sort(best, axis=1)
    first, second = ordered[:, -1:], ordered[:, -2:-1]
    return np.where(best == first, second, first)


def _covered(near: np.ndarray, problem: Statements) -> tuple[np.ndarray, np.ndarray]:
    """The share of each statement's words that the question meets, and meets closely."""
    places, starts = problem.clauses
    found = near[places]
    whole = np.maximum(1e-6, np.add.reduceat(problem.weights, starts))
    met = np.add.reduceat(found * problem.weights, starts) / whole
    return met, np.add.reduceat((found > _CLOSE) * problem.weights, starts) / whole


def _named(near: np.ndarray, problem: Statements) -> np.ndarray:
    """How closely the question names what each statement counts."""
    places, starts = problem.counted
    counts = np.diff([*starts, len(places)]) > 1
    return np.where(counts, np.maximum.reduceat(near[places], starts), _UNNAMED)


def _agrees(asked: Asked, fact: Fact, frame: Frame) -> list[float]:
    """What the rules find of a question and one statement: quantity, people, places, numbers."""
    mine, its = asked.quantity, fact.tells
    shared = mine.sorts & its.sorts
    if not fact.is_goal:
        fits = fit(mine, its, frame.nouns)
    else:
        fits = (1.0 if shared else -1.0) if mine.sorts and its.sorts else 0.0
    people = fact.clause & frame.people
    if not people - KIN:
        people |= fact.everything & frame.people
    both = bool(asked.people and people)
    keys = len(asked.about & fact.clause)
    return [
        fits,
        float(fits < 0),
        float(both and bool(asked.people & people)),
        float(both and not asked.people & people),
        _sign(asked.each, fact.each, asked.each == fact.each),
        float(mine.compared and its.compared),
        float(mine.compared != its.compared),
        _sign(asked.places or None, fact.places or None, bool(asked.places & fact.places)),
        float(bool(asked.numbers & fact.beside)),
        float(bool(asked.numbers & fact.own)),
        keys / max(1, len(asked.about)),
        keys / max(1, len(fact.clause)),
        len(asked.about & fact.phrase) / max(1, len(fact.phrase)),
        likeness(asked, fact, frame),
        float(fact.is_goal),
        float(bool(mine.sorts) and not shared),
    ]


def _sign(one: object, other: object, same: bool) -> float:
    """1 for the same, -1 for the contrary, 0 where one of them is silent."""
    return 0.0 if one is None or other is None else (1.0 if same else -1.0)


def _of_question(
    unit: str, reply: str, prompt_text: str, asked: Asked, problem: Statements
) -> list[float]:
    """`QUESTION` behind its first four."""
    frame, low = problem.frame, unit.lower()
    place = points_at(unit, frame)
    mine = asked.quantity.sorts
    lacks = frozenset[str]().union(*(fact.tells.sorts for fact in frame.removed))
    opens = _YES_OR_NO.search(unit) is not None
    quoted = [q.lower().strip(" .,;…") for q in _QUOTED.findall(reply)]
    quoted = [q for q in quoted if q and q in prompt_text.lower()]
    return [
        float(asked.quantity.measurable),
        float(not mine),
        float(opens and not _ASKS_WHAT.search(unit)),
        float(opens),
        float(NO_QUANTITY.search(unit) is not None),
        float("how many" in low),
        float("how much" in low),
        float(all(near_miss(unit, asked, fact, frame) for fact in frame.removed)),
        float(len(mine) == 1 and bool(mine & lacks)),
        float(bool(mine) and not mine & lacks),
        float(any(q not in problem.given for q in quoted)),
        float(any(q in problem.given for q in quoted)),
        float(len(frame.removed) > 1),
        *(float(place == name) for name in PLACES),
        *(float(sort in mine) for sort in SORTS),
        *(float(sort in lacks) for sort in SORTS),
        *(float(sort in mine & lacks) for sort in SORTS),
    ]
