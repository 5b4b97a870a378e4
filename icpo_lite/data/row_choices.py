"""The choices of a row, their letters, and which of them is right.

    MMLU              choices [text, …], answer 2 (the first is 0); or A, B, C, D and answer "C"
    ARC, OpenBookQA,  choices {"text": […], "label": […]}, answerKey "B" or "2"; or
    CommonsenseQA     question {"stem": …, "choices": [{"label", "text"}, …]}
    MedQA, MediQ      options {"A": text, …}, answer (its text), answer_idx "A"
    MMLU-Pro, RACE    options [text, …], answer "B"
    AQuA              options ["A)5", "B)7", …], correct "B"
    MathQA            options "a ) 5 , b ) 7", correct "a"
    MedMCQA           opa, opb, opc, opd; files count its `cop` from 0 or from 1, so that
                      columns: {choice: cop} has to say that it is from 0

What is right becomes the words of its choice, whatever the row calls it by; where a row calls two
different choices right, or one call may mean two, it is refused. The choices travel with the
prompt as {"A": words, …}, so that a reply may name either (`rewards/graders/choice_answers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icpo_lite.core.numbers import numbers
from icpo_lite.data.cells import shown, text_of, unpacked
from icpo_lite.data.row_columns import Cells
from icpo_lite.data.row_files import BadRowError

_WHAT = "choices in words"
A_CHOICE = "an answer that is one of the choices"
#: Columns that hold one choice each, in order.
_SPREAD = (
    *(("opa", "opb", "opc", "opd", "ope"), ("A", "B", "C", "D", "E", "F")),
    tuple(f"option_{letter}" for letter in "abcdef"),
    tuple(f"option{number}" for number in range(1, 7)),
    tuple(f"option_{number}" for number in range(1, 7)),
    tuple(f"choice_{letter}" for letter in "abcdef"),
    tuple(f"answer{letter}" for letter in "ABCDEF"),
)
_OWN_LETTER = re.compile(r"\s*\(?([A-Za-z]|\d{1,2})\s*[).:]\s*(?=\S)")
_LABEL = re.compile(
    r"^(?:option|choice|answer)\s*\(?|^\\(?:text\w*|mathrm|mathbf)\{\(?|\)?\}$", re.IGNORECASE
)
_MOST = 26
_IN_A_LINE = re.compile(r"(?:^|[\s,;])\(?([A-Za-z])\s?[).:]\s*")


@dataclass(frozen=True, slots=True)
class Choices:
    """words: letter → words, as the prompt shows them. own: the row's own label → words."""

    words: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.words)

    def column(self) -> dict[str, Any]:
        """The column of a prompt in which graders find them; empty without choices."""
        return {"choices": dict(self.words)} if self.words else {}

    def lines(self) -> str:
        """The choices as a prompt shows them, one a line with its letter."""
        return "\n".join(f"{label}. {text}" for label, text in self.words.items())


def choices_of(cells: Cells) -> Choices:
    """The choices of a row by their letters; empty where it gives none.

    Raises BadRowError for what is no list of choices, and for two that read the same.
    """
    found = Choices()
    for column in cells.present("choices"):
        told = _listed(unpacked(cells.use(column)))
        if found and told and [*told.words.values()] != [*found.words.values()]:
            raise BadRowError("one list of choices", f"another in {column}")
        found = found or told
    found = found or _spread(cells)
    said = [_plain(text) for text in found.words.values()]
    if len(set(said)) < len(said):
        raise BadRowError("choices that differ", shown(list(found.words.values())))
    return found


def right_choice(cells: Cells, choices: Choices, stated: Callable[[str], str | None]) -> str:
    """The words of the choice that a row calls right; "" where it calls none.

    stated: what a worked answer comes to. Raises BadRowError where what the row says is none of
    them, or not one and the same.
    """
    named = cells.present("choice")
    if (answer := cells.column("answer")) and unpacked(cells.row[answer]) not in ([], {}):
        named = [*named, answer]
    told = {c: _called(cells, c, choices, stated) for c in dict.fromkeys(named)}
    if len(set(told.values())) > 1:
        both = " and ".join(f"{shown(text)} in {column}" for column, text in told.items())
        raise BadRowError("one right choice", both)
    return next(iter(told.values()), "")


def named_choice(said: str, choices: Choices) -> str:
    """The words of the choice that a text names by its letter or words; "" where it names none."""
    return _by_label(said, choices) or _by_words(said, choices) or ""


# ----------------------------------------------------------------------------------- the choices


def _listed(value: Any) -> Choices:
    """The choices of a cell."""
    if isinstance(value, Mapping) and {"text", "label"} <= value.keys():
        labels, texts = value["label"], value["text"]
        if not (isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts)):
            raise BadRowError("as many labels as choices", shown(value))
        return _lettered(zip(labels, texts, strict=True))
    if isinstance(value, Mapping):
        return _lettered(value.items())
    if isinstance(value, str):
        return _of_text(value)
    if not isinstance(value, Sequence):
        raise BadRowError(_WHAT, shown(value))
    if value and all(isinstance(v, Mapping) and "label" in v for v in value):
        return _lettered((v["label"], {k: w for k, w in v.items() if k != "label"}) for v in value)
    return _of_texts([text_of(v, _WHAT) for v in value])


def _of_texts(texts: Sequence[str]) -> Choices:
    """Choices by the letters that all of them begin with in order, or by those of the alphabet."""
    if not all(texts):
        raise BadRowError(_WHAT, "an empty one")
    own = [m for m in map(_OWN_LETTER.match, texts) if m]
    if len(own) == len(texts) and _is_order([m[1] for m in own]):
        return _lettered((m[1], m.string[m.end() :]) for m in own)
    return Choices(dict(zip(_alphabet(len(texts)), texts, strict=True)))


def _of_text(text: str) -> Choices:
    """ "a ) 38 , b ) 27.5" → {"a": "38", "b": "27.5"}; or one choice a line."""
    found = list(_IN_A_LINE.finditer(text))
    if _is_order([m[1] for m in found]) and not text[: found[0].start()].strip():
        ends = [*(m.start() for m in found[1:]), len(text)]
        spans = zip(found, ends, strict=True)
        return _lettered((m[1], text[m.end() : end].strip(" ,;\n")) for m, end in spans)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        raise BadRowError(_WHAT, shown(text), "write them as a list, or one a line")
    return _of_texts(lines) if lines else Choices()


def _lettered(pairs: Iterable[tuple[Any, Any]]) -> Choices:
    """Choices by the labels of the row; by letters where a label may be taken for a choice."""
    listed = [(str(label).strip(), text_of(text, _WHAT)) for label, text in pairs]
    own = {label: text for label, text in listed if text}  # tables fill rows up with null
    if len({label for label, _ in listed}) < len(listed):
        raise BadRowError("labels that differ", shown([label for label, _ in listed]))
    texts = list(own.values())
    if any(re.fullmatch(r"[A-Za-z]|\d+", label) is None for label in own) or set(own) & set(texts):
        return Choices(dict(zip(_alphabet(len(texts)), texts, strict=True)), own)
    return Choices(own, own)


def _spread(cells: Cells) -> Choices:
    """The choices of a row that has a column for each."""
    for names in _SPREAD:
        held = [n for n in names if cells.row.get(n) not in (None, "")]
        if len(held) > 1 and held == list(names[: len(held)]):
            return _of_texts([text_of(cells.use(n), _WHAT) for n in held])
    return Choices()


def _alphabet(count: int) -> list[str]:
    if count > _MOST:
        raise BadRowError(f"at most {_MOST} choices", str(count))
    return [chr(ord("A") + i) for i in range(count)]


def _is_order(letters: Sequence[str]) -> bool:
    """Whether labels count up from a, A or 1."""
    starts = ("a", "A", "1")
    orders = ([chr(ord(start) + i) for i in range(len(letters))] for start in starts)
    return len(letters) > 1 and list(letters) in list(orders)


# ------------------------------------------------------------------------------- the right choice


def _called(
    cells: Cells, column: str, choices: Choices, stated: Callable[[str], str | None]
) -> str:
    """The choice that a column names: by its words, its letter, or its place from 0 on."""
    value = unpacked(cells.use(column))
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    said = text_of(value, A_CHOICE)
    found = _named(cells, column, value, said, choices)
    if found is None and (short := stated(said)):
        found = _named(cells, column, short, short, choices)
    if found is None:
        raise BadRowError(
            A_CHOICE,
            shown(value),
            "give the words or the letter of the choice, or its place from 0 on as answer_idx",
        )
    return found


def _named(cells: Cells, column: str, value: Any, said: str, choices: Choices) -> str | None:
    bare = said.strip(" ().:")
    words = _by_words(said, choices)
    place = _by_place(cells, column, bare, choices)
    if words and place and words != place:
        return words if _is_word_of(cells, value) else _unclear(value)
    return _by_label(said, choices) or words or place


def _by_label(said: str, choices: Choices) -> str | None:
    labels = {**choices.words, **choices.own}
    letters = {label.casefold(): text for label, text in labels.items()}
    bare = _LABEL.sub("", said.strip(" ().:*$"))
    return labels.get(bare) or letters.get(bare.casefold())


def _by_words(said: str, choices: Choices) -> str | None:
    """The choice with these words, or the one that is the same number: "5.0" among "5" and "7"."""
    texts = list(choices.words.values())
    same = [text for text in texts if _plain(text) == _plain(said)]
    wanted = [n.value for n in numbers(said)]
    if not same and len(wanted) == 1 and re.fullmatch(r"[-$€£%\d.,\s/]+", said):
        same = [text for text in texts if [n.value for n in numbers(text)] == wanted]
    return same[0] if len(same) == 1 else None


def _by_place(cells: Cells, column: str, said: str, choices: Choices) -> str | None:
    """The choice at a place from 0 on, in a column that may hold one."""
    counts = column == cells.column("answer") or column.casefold().endswith(("idx", "index"))
    if not (counts or cells.named("choice")) or not re.fullmatch(r"\d{1,2}", said):
        return None
    if any(label.isdigit() for label in choices.own):
        return None
    return next(iter(list(choices.words.values())[int(said) :]), None)


def _is_word_of(cells: Cells, value: Any) -> bool:
    """Whether a number that is one choice and the place of another is meant as the choice.

    It is where it is written as they are. Of a number among texts, and of a table, which makes
    texts of all, nobody can tell.
    """
    column = cells.column("choices")
    listed = cells.row[column] if column else None
    if not isinstance(listed, list):
        return False
    return isinstance(value, str) == all(isinstance(choice, str) for choice in listed)


def _unclear(value: Any) -> str:
    raise BadRowError(
        "an answer that names one choice",
        f"{shown(value)}, which is one of them and the place of another",
        "give its letter as answer_idx",
    )


def _plain(text: str) -> str:
    """Words to compare: without case, double blanks and a full stop at the end."""
    return " ".join(text.split()).rstrip(".").casefold()
