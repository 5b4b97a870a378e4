"""Train the learned judge: `python -m icpo_lite.tools.train_judge --data FILE --out ASSET`.

FILE holds labelled turns as JSON lines: `assistant`, `response_type`, `task`, `source_model` and
`task_id` (see `--help` for other names). Prints how rules and model agree with the labels of a
source model that was left out, for every such model, then fits all rows and writes the asset and
its card. Needs scikit-learn (`pip install "icpo-lite[judge-train]"`); nothing else here does.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from icpo_lite.core.errors import DataError, IcpoError, UsageError
from icpo_lite.core.types import ResponseType
from icpo_lite.rewards import features, judge_agreement
from icpo_lite.rewards.judge import Rules
from icpo_lite.rewards.judge_agreement import Columns, Row, Typed
from icpo_lite.rewards.linear_features import character_grams, facts, word_grams
from icpo_lite.rewards.linear_judge import KINDS, Encoder, LinearModel, Vocabulary, save
from icpo_lite.rewards.response_type import Classification
from icpo_lite.tools.judge_turns import plain_turns

#: An n-gram gets a weight when so many turns hold it, of so many problems: what one problem is
#: about must not tell a type.
MIN_TURNS, MIN_PROBLEMS = 8, 4
#: Inverse strength of the ridge, the factor of n-grams beside facts, and how far rare types are
#: lifted (0: as common as in the labels, 1: all alike). Chosen on leave-one-model-out.
STRENGTH, GRAMS, LIFT = 0.25, 2.0, 0.7
#: What turns in plain style are learned as, besides what all tasks share.
PLAIN_TASK = "plain"
#: Turns in plain style beside the labelled ones, and what each counts.
PLAIN, PLAIN_WEIGHT = 300, 0.3
#: Labelled interrogations from which a task learns them; with fewer its questions are counted.
LEAST = 10


Gram = TypeVar("Gram", str, int)


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled turn and what is read off it; by_rules: the type that the rules give it."""

    row: Row
    problem: str
    label: ResponseType
    facts: Mapping[str, float]
    words: Set[str]
    characters: np.ndarray
    by_rules: Classification


@dataclass(frozen=True, slots=True)
class Parts:
    """What a model may learn from: all features, or one kind alone for a comparison."""

    cues_only: bool = False
    facts: bool = True
    grams: bool = True


def read_examples(file: Path, columns: Columns, problem: str) -> list[Example]:
    """The labelled turns of a file, with their features. Raises DataError with the line."""
    rows = judge_agreement.read_rows(file, columns)
    for row in rows:
        if not row.label or not row.data.get(columns.by or ""):
            raise DataError(
                f"{row.place}: expected a label and a source model, found none; name the columns "
                "with --label and --by"
            )
    typed, _ = judge_agreement.type_rows(rows, Rules())
    return [_example(t, str(t.row.data.get(problem, t.row.place))) for t in typed]


def plain_examples(count: int) -> list[Example]:
    """Turns in plain style (`judge_turns`), of no source model and no problem."""
    rows = [
        Row(f"plain:{i}", {}, reply, "math", "", kind.value, None)
        for i, (kind, reply) in enumerate(plain_turns(count), start=1)
    ]
    typed, _ = judge_agreement.type_rows(rows, Rules())
    return [_example(t, "") for t in typed]


def _example(typed: Typed, problem: str) -> Example:
    row = typed.row
    return Example(
        row=row,
        problem=problem,
        label=ResponseType(row.label or ""),
        facts=facts(row.reply, row.task),
        words=word_grams(row.reply),
        characters=character_grams(row.reply),
        by_rules=typed.found,
    )


# ------------------------------------------------------------------------------------------- fit


def fit(
    examples: Sequence[Example], parts: Parts | None = None, plain: Sequence[Example] = ()
) -> LinearModel:
    """A model of the labels; examples without a word are left out, as rules type them.

    plain: turns made by rule. They teach answer or not alone, count PLAIN_WEIGHT and bring no
    n-grams of their own; that they should teach the kinds too made those of real turns worse.
    """
    parts = parts or Parts()
    said = [e for e in examples if e.label is not ResponseType.MISSING]
    vocabulary = _vocabulary(said, parts)
    tasks = sorted({e.row.task for e in said})
    taught = [*said, *(e for e in plain if e.row.task in tasks)]
    counts = np.where(np.arange(len(taught)) < len(said), 1.0, PLAIN_WEIGHT)
    x = _matrix(taught, vocabulary, [*tasks, PLAIN_TASK])
    answers = np.array([e.label is ResponseType.ANSWER_ATTEMPT for e in taught])
    rest = np.flatnonzero(~answers[: len(said)])
    kinds = np.array([KINDS.index(said[i].label) for i in rest])
    products = _products(x, len(vocabulary), len(tasks) + 1)
    weights = np.zeros((x.shape[1], len(KINDS)))
    biases = np.full(len(KINDS), -20.0)
    weights[:, :1], biases[:1] = _logistic(x, answers, counts, products)
    columns = np.unique(kinds)
    weights[:, columns], biases[columns] = _logistic(
        x[rest], kinds, None, products[np.ix_(rest, rest)]
    )
    return LinearModel(
        vocabulary,
        {t: _of_task(weights, i, len(vocabulary), vocabulary) for i, t in enumerate(tasks)},
        {t: biases + weights[i - len(tasks) - 1] + _lift(said, t) for i, t in enumerate(tasks)},
        [t for t in tasks if _interrogations(said, t) < LEAST],
    )


def _vocabulary(examples: Sequence[Example], parts: Parts) -> Vocabulary:
    names = sorted({name for e in examples for name in e.facts})
    if parts.cues_only:
        cues = features.features(features.read(""))
        names = [name for name in names if name in cues]
    return Vocabulary(
        tuple(names if parts.facts else ()),
        tuple(_common([(e.words, e.problem) for e in examples] if parts.grams else ())),
        tuple(
            _common([(e.characters.tolist(), e.problem) for e in examples] if parts.grams else ())
        ),
    )


def _common(held: Sequence[tuple[Iterable[Gram], str]]) -> list[Gram]:
    """N-grams that enough turns of enough problems hold; a turn names each once."""
    turns: Counter[Gram] = Counter()
    of_problem: defaultdict[str, set[Gram]] = defaultdict(set)
    for grams, problem in held:
        turns.update(grams)
        of_problem[problem].update(grams)
    problems = Counter(chain.from_iterable(of_problem.values()))
    return sorted(g for g, n in turns.items() if n >= MIN_TURNS and problems[g] >= MIN_PROBLEMS)


def _matrix(examples: Sequence[Example], vocabulary: Vocabulary, tasks: Sequence[str]) -> Any:
    """Each feature once for all tasks and once for its own, then a column for each task: sparse
    [n, F · (1 + tasks) + tasks].

    What tasks have in common is learned from all of them, and what they have not costs twice.
    """
    from scipy.sparse import csr_matrix

    encoder, size = Encoder(vocabulary), len(vocabulary)
    scale = _scale(vocabulary)
    to, values = [], []
    for e in examples:
        places, found = encoder.encode(e.facts, e.words, e.characters)
        task = tasks.index(e.row.task if e.problem else PLAIN_TASK)
        own = size * (1 + task)
        to.append(np.concatenate([places, own + places, [size * (1 + len(tasks)) + task]]))
        values.append(np.concatenate([*2 * (found * scale[places],), [1.0]]))
    starts = np.cumsum([0, *map(len, to)])
    shape = (len(examples), (size + 1) * (1 + len(tasks)) - 1)
    return csr_matrix((np.concatenate(values), np.concatenate(to), starts), shape=shape)


def _scale(vocabulary: Vocabulary) -> np.ndarray:
    scale = np.full(len(vocabulary), GRAMS)
    scale[: len(vocabulary.facts)] = 1.0
    return scale


def _logistic(
    x: Any,
    labels: np.ndarray,
    counts: np.ndarray | None = None,
    products: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [features, classes] and biases [classes]; one class for a yes or no.

    products: of the rows of x with one another, where there are fewer rows than columns.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise UsageError(
            'training a judge needs scikit-learn: pip install "icpo-lite[judge-train]"'
        ) from error
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    if products is None or x.shape[0] >= x.shape[1]:
        fitted = model.fit(x, labels, counts)
        return fitted.coef_.T, fitted.intercept_
    root, back = _in_its_rows(x, products)
    fitted = model.fit(root, labels, counts)
    return back(fitted.coef_.T), fitted.intercept_


#: What is added to a turn's product with itself, in its own units, so that twins can be told apart.
_TWINS = 1e-9


def _products(x: Any, size: int, tasks: int) -> np.ndarray:
    """The products of all rows of `_matrix`: those of what tasks share, twice within a task."""
    shared, of_task = x[:, :size], x[:, -tasks:]
    same = (of_task @ of_task.T).toarray()
    return (shared @ shared.T).toarray() * (1 + same) + same


def _in_its_rows(
    x: Any, products: np.ndarray
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """A square matrix whose rows have the products of those of x, and the way back to its columns.

    A ridge leaves weights in the span of the rows. With far fewer turns than features it is the
    same fit, a tenth as long.
    """
    from scipy.linalg import solve_triangular

    apart = products.copy()
    apart[np.diag_indices_from(apart)] *= 1 + _TWINS
    root = np.linalg.cholesky(apart)
    return root, lambda w: x.T @ solve_triangular(root, w, lower=True, trans="T")


def _of_task(weights: np.ndarray, task: int, size: int, vocabulary: Vocabulary) -> np.ndarray:
    """Shared weights and a task's own in one table [F, 6]."""
    own = slice(size * (1 + task), size * (2 + task))
    both = weights[:size] + weights[own]
    return (both * _scale(vocabulary)[:, None]).astype(np.float32)


def _lift(examples: Sequence[Example], task: str) -> np.ndarray:
    """What is added to a task's biases so that rare kinds are found more often."""
    labels = Counter(e.label for e in examples if e.row.task == task)
    shares = np.array([labels[kind] + 1 for kind in KINDS]) / max(1, sum(labels.values()))
    lift = -LIFT * np.log(shares)
    lift[0] = 0.0
    return lift


def _interrogations(examples: Sequence[Example], task: str) -> int:
    return sum(e.row.task == task and e.label is ResponseType.INTERROGATION for e in examples)


# --------------------------------------------------------------------------- leave one model out


def held_out(
    examples: Sequence[Example], parts: Parts | None = None, plain: Sequence[Example] = ()
) -> list[Classification]:
    """Each example's type by a model that saw no turn of its source model."""
    found: list[Classification | None] = [None] * len(examples)
    for source in sorted({e.row.group or "" for e in examples}):
        model = fit([e for e in examples if e.row.group != source], parts, plain)
        for i, e in enumerate(examples):
            if e.row.group == source:
                found[i] = model.decide(e.row.reply, e.row.task, e.facts, e.words, e.characters)
    return [f for f in found if f is not None]


def typed_by(examples: Sequence[Example], found: Sequence[Classification]) -> list[Typed]:
    """Examples with types; nothing said is missing whoever judges, as in training."""
    return [
        Typed(e.row, e.by_rules if e.by_rules.response_type is ResponseType.MISSING else f)
        for e, f in zip(examples, found, strict=True)
    ]


def comparison(examples: Sequence[Example], plain: Sequence[Example]) -> dict[str, list[Typed]]:
    """Who is compared, and how each types the examples, out of sample where anything is fitted."""
    linear = held_out(examples, plain=plain)
    hard = [f if e.by_rules.weighed else e.by_rules for e, f in zip(examples, linear, strict=True)]
    cues = held_out(examples, Parts(cues_only=True, grams=False))
    cues = [f if e.by_rules.weighed else e.by_rules for e, f in zip(examples, cues, strict=True)]
    return {
        "rules, as they are": typed_by(examples, [e.by_rules for e in examples]),
        "rules, cues weighed anew": typed_by(examples, cues),
        "n-grams alone": typed_by(examples, held_out(examples, Parts(facts=False))),
        "linear alone": typed_by(examples, linear),
        "hard rules, then linear": typed_by(examples, hard),
    }


#: The judge that is shipped, among those of `comparison`.
SHIPPED = "hard rules, then linear"


def table(compared: Mapping[str, Sequence[Typed]]) -> Iterator[str]:
    """A line for each judge and task: agreement on answer or not, on seven types, macro-F1."""
    yield f"{'':<26}{'task':<10}{'answer or not':>14}{'seven types':>13}{'macro-F1':>10}"
    for name, typed in compared.items():
        for task in sorted({t.row.task for t in typed}):
            part = [t for t in typed if t.row.task == task]
            f = figures(part)
            shown = f"{f['binary']:>14.3f}{f['seven']:>13.3f}{f['macro_f1']:>10.3f}"
            yield f"{name:<26}{task:<10}{shown}"
            name = ""


def figures(typed: Sequence[Typed]) -> dict[str, Any]:
    """Agreement of one task's turns, rounded; the worst source model by answer or not."""
    groups = sorted({t.row.group or "" for t in typed})
    worst = {
        g: judge_agreement.binary_agreement([t for t in typed if t.row.group == g]) for g in groups
    }
    return {
        "turns": len(typed),
        "binary": round(judge_agreement.binary_agreement(typed), 4),
        "seven": round(judge_agreement.agreement(typed), 4),
        "macro_f1": round(judge_agreement.macro_f1(typed), 4),
        "f1": {kind: round(value, 3) for kind, value in judge_agreement.f1(typed).items()},
        "lowest_binary": round(min(worst.values()), 4),
    }


def card(
    examples: Sequence[Example], model: LinearModel, compared: Mapping[str, Sequence[Typed]]
) -> dict[str, Any]:
    """What the asset is made of and how well it does, for the JSON file beside it."""
    tasks = sorted(model.weights)
    sizes = model.vocabulary
    return {
        "what": "response types of assistant turns, where no hard evidence of the rules decides",
        "model": "multinomial logistic regression over facts and n-grams of the reply, ridge; one "
        "sum for answer attempt, five for the other types",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "options": {
            "strength": STRENGTH,
            "grams": GRAMS,
            "lift": LIFT,
            "min_turns": MIN_TURNS,
            "min_problems": MIN_PROBLEMS,
            "plain_turns": PLAIN,
            "plain_weight": PLAIN_WEIGHT,
        },
        "features": {
            "facts": len(sizes.facts),
            "word_ngrams": len(sizes.words),
            "character_ngrams": len(sizes.characters),
        },
        "data": {
            "turns": {t: sum(e.row.task == t for e in examples) for t in tasks},
            "labels": {
                t: dict(sorted(Counter(e.label.value for e in examples if e.row.task == t).items()))
                for t in tasks
            },
            "source_models": sorted({e.row.group or "" for e in examples}),
            "problems": len({e.problem for e in examples}),
        },
        "leave_one_model_out": {
            name: {t: figures([x for x in typed if x.row.task == t]) for t in tasks}
            for name, typed in compared.items()
        },
        "note": "Rules as they are were written and weighed with these turns in view, so their own "
        "line is not out of sample; all others are. The choice of options saw the same table.",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled turns, JSON lines")
    parser.add_argument("--out", type=Path, default=None, help="the asset (.safetensors)")
    parser.add_argument("--source", default="", help="of the labels: written into the card")
    parser.add_argument("--licence", default="not stated", help="of the labels: as above")
    parser.add_argument("--text", default="assistant", help="column of the reply")
    parser.add_argument("--label", default="response_type", help="column of the type")
    parser.add_argument("--task", default="task", help="column of the task, or a task")
    parser.add_argument("--by", default="source_model", help="column of the source model")
    parser.add_argument("--problem", default="task_id", help="column of the problem")
    args = parser.parse_args()
    try:
        train(args, print)
    except IcpoError as error:
        parser.exit(2, f"{error}\n")


def train(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Measure, print, fit all, write; without --out only the table is printed."""
    columns = Columns(text=args.text, task=args.task, label=args.label, by=args.by)
    examples = read_examples(args.data, columns, args.problem)
    plain = plain_examples(PLAIN)
    compared = comparison(examples, plain)
    for line in table(compared):
        say(line)
    if args.out is None:
        return
    model = fit(examples, plain=plain)
    described = card(examples, model, compared)
    described["data"] |= {"source": args.source or args.data.name, "licence": args.licence}
    save(model, described, args.out)
    say(f"written: {args.out} ({args.out.stat().st_size / 1e6:.2f} MB) and its card")


if __name__ == "__main__":
    main()
