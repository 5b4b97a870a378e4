"""Bias tests of a judge, against judges whose bias is known."""

import json

from click.testing import CliRunner

from icpo_lite.cli.classify import classify
from icpo_lite.core.types import ResponseType
from icpo_lite.rewards.judge import Rules
from icpo_lite.rewards.judge_agreement import Columns, read_rows, type_rows
from icpo_lite.rewards.judge_audit import audit
from icpo_lite.rewards.model_judge import SelfTyper
from icpo_lite.rewards.response_type import Classification

REPLIES = [("The answer is 7.", "answer_attempt"), ("How many eggs are there?", "clarification")]


def rows(tmp_path, label=None):
    file = tmp_path / "r.jsonl"
    lines = [json.dumps({"assistant": r, "type": k, "user": "?"}) for r, k in REPLIES]
    file.write_text("\n".join([*lines, json.dumps({"assistant": "", "type": "missing"})]))
    return read_rows(file, Columns(label=label))


class FirstLetter:
    """A model that likes the first letter best, whatever stands there."""

    def score(self, chats, continuations, *, mean=False):
        return [[-float(i) for i in range(len(row))] for row in continuations]


class Gullible:
    """Says what the note says; without one, and in a long reply, an answer attempt."""

    def types(self, items):
        found = []
        for _, reply, _ in items:
            kind = ResponseType.ANSWER_ATTEMPT
            if "have a nice day" in reply:
                kind = ResponseType.DISCUSSION
            if "classified it as clarification" in reply:
                kind = ResponseType.CLARIFICATION
            found.append(Classification(kind, ""))
        return found


def test_position_is_all_that_some_judges_go_by(tmp_path) -> None:
    """Turned round, the first letter stands for `missing`, the last of the list."""
    judge = SelfTyper(FirstLetter())
    typed, _ = type_rows(rows(tmp_path), judge)
    assert [t.kind for t in typed[:2]] == ["answer_attempt"] * 2
    assert next(audit(typed, judge)) == (
        "position: 2 of 2 types change (100.0%), 2 between answer attempt and the rest"
    )


def test_length_and_authority_by_hand(tmp_path) -> None:
    typed, _ = type_rows(rows(tmp_path, label="type"), Gullible())
    position, length, authority = audit(typed, Gullible())
    assert position == "position: this judge is shown no list of types"
    assert length == (
        "length: 2 of 2 types change (100.0%), 2 between answer attempt and the rest; agreement "
        "0.500, then 0.000"
    )
    assert authority == (
        "authority: 2 of 2 types change (100.0%), 2 between answer attempt and the rest, 2 to the "
        "type that was claimed; agreement 0.500, then 0.500"
    )


def test_the_rules_do_not_listen_to_courtesies(tmp_path) -> None:
    typed, _ = type_rows(rows(tmp_path), Rules())
    _, length, _ = audit(typed, Rules())
    assert length.startswith("length: 0 of 2 types change")


def test_on_the_command_line(tmp_path) -> None:
    rows(tmp_path)
    done = CliRunner().invoke(classify, [str(tmp_path / "r.jsonl"), "--judge", "rules", "--audit"])
    assert done.exit_code == 0, done.output
    assert "authority: " in done.output
