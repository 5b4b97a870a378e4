"""`augment` with a server: side by side, within a budget, and on from where it stopped."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from icpo_lite import cli

PROBLEMS = 70
TEXT = "{name} has {n} red apples. Ben gives {name} 4 more apples. How many apples has {name} now?"


class Sharder(ThreadingHTTPServer):
    """Splits the problem that it is asked about, or solves it."""

    daemon_threads = True
    request_queue_size = 128  # a refused connection would be one request more

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = Counter()
        self.most = self.flying = 0
        self.lock = threading.Lock()
        self.together = threading.Condition(self.lock)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, said = self.server, body["messages"][-1]["content"]
        with server.together:
            server.asked[said, body["seed"]] += 1
            server.flying += 1
            server.most = max(server.most, server.flying)
            server.together.notify_all()
            # Others that are on their way come in before the first is answered.
            server.together.wait_for(lambda: server.flying >= 8, timeout=0.5)
        text = json.dumps({"choices": [{"message": {"content": answer(said)}}]}).encode()
        with server.lock:
            server.flying -= 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def answer(said):
    if "Split the problem" not in said:
        whole = " 3 red" in said and " 4 more" in said
        return "The answer is 7." if whole else "The answer is 3."
    problem = said.rpartition("Problem:\n")[2]
    *facts, question = [f"{part.strip()}." for part in problem.replace("?", ".").split(".")[:-1]]
    question = question.removesuffix(".") + "?"
    return json.dumps({"question": question, "facts": facts})


@pytest.fixture
def server():
    with Sharder() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = []
    for i in range(PROBLEMS):
        text = TEXT.format(name=f"Ann{chr(97 + i // 26)}{chr(97 + i % 26)}", n=3)
        rows.append({"question": text, "answer": "3+4=<<3+4=7>>7\n#### 7"})
    (tmp_path / "q.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def augment(server, output, *more):
    arguments = ["augment", "q.jsonl", "-o", output, "--method", "endpoint"]
    return cli.run([*arguments, "--base-url", server.url, "--endpoint-model", "m", *more])


def rows(place, output):
    return [json.loads(line) for line in (place / output).open()]


def test_requests_go_side_by_side_up_to_the_bound(server, place, capsys):
    assert augment(server, "a.jsonl", "--concurrency", "8") == 0, capsys.readouterr()
    assert server.most == 8
    assert sum(server.asked.values()) == PROBLEMS
    assert any(row["intent"] == "underspecified" for row in rows(place, "a.jsonl"))


@pytest.mark.parametrize("budget", [5, 64, 66])
def test_a_budget_ends_it_and_the_same_command_goes_on(budget, server, place, capsys):
    """Each time so many requests more, none of them a second time; the end as without a budget."""
    assert augment(server, "whole.jsonl") == 0
    whole = rows(place, "whole.jsonl")
    once = dict(server.asked)
    server.asked.clear()
    (place / "cache").rename(place / "cache-of-another")
    done, calls = 0, 0
    while done < PROBLEMS:
        calls += 1
        assert augment(server, "cut.jsonl", "--max-requests", str(budget)) == 0
        said = capsys.readouterr().out
        found = rows(place, "cut.jsonl")
        done = sum(row["intent"] == "complete" for row in found)
        assert done == min(calls * budget, PROBLEMS)
        assert found == whole[: len(found)]
        assert ("stopped: " in said) == (done < PROBLEMS)
        assert sum(server.asked.values()) == done
        if calls == 3 and budget == 5:
            assert augment(server, "cut.jsonl") == 0  # the rest, without a bound
            done = PROBLEMS
    assert rows(place, "cut.jsonl") == whole
    assert dict(server.asked) == once
    assert not (place / ".cut.jsonl.replies").exists()


def test_what_is_tried_counts_as_well(server, place, capsys):
    """verify: two questions of two samples for each pair, beside the one that shards it."""
    tried = ("--verify", "2")
    assert augment(server, "whole.jsonl", *tried) == 0
    whole, requests = rows(place, "whole.jsonl"), sum(server.asked.values())
    assert requests > 3 * PROBLEMS
    server.asked.clear()
    (place / "cache").rename(place / "cache-of-another")
    for _ in range(-(-requests // 100)):
        assert augment(server, "cut.jsonl", *tried, "--max-requests", "100") == 0
    assert rows(place, "cut.jsonl") == whole
    assert set(server.asked.values()) == {1}


def test_a_budget_that_reaches_for_nothing_is_said_in_a_line(server, place, capsys):
    more = ("--verify", "9", "--max-requests", "1")
    assert augment(server, "a.jsonl", *more) == 2
    assert "expected enough for a first problem" in capsys.readouterr().err
    assert not (place / "a.jsonl").exists()


def test_a_budget_bounds_a_server_alone(place, capsys):
    assert cli.run(["augment", "q.jsonl", "-o", "a.jsonl", "--max-requests", "9"]) == 2
    assert "--max-requests bounds what a server is sent" in capsys.readouterr().err
