"""Training-free GRPO against a generator whose words are known."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from click.testing import CliRunner

from icpo_lite.cli.advise import advise
from icpo_lite.core.types import Intent, Message, Prompt, ResponseType, Reward, Verdict
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.recipe import load_recipe
from icpo_lite.tools.advice import HEAD, Adviser, as_lines, system_text

RECIPE = load_recipe("tiny", ["num_generations=2", "prompts_per_step=2", "seed=0"])


def prompt(name: str, intent: Intent) -> Prompt:
    return Prompt(name, name, "math", intent, (Message("user", f"{name} has 12"),), "12")


PROMPTS = [prompt("q", Intent.COMPLETE), prompt("lacks", Intent.UNDERSPECIFIED)]


class Scripted:
    """Gives each prompt a good and a bad reply, and says the lines that it is handed."""

    def __init__(self, *lines: str) -> None:
        self.lines, self.asked = list(lines), []

    def generate(self, chats, *, n=1, max_new_tokens=256, temperature=1.0, seed=0):
        self.asked += [chat[-1].content if n == 1 else chat for chat in chats]
        if n == 2:
            return [["good", "bad"] for _ in chats]
        return [[self.lines.pop(0)] for _ in chats]


class AllTalk:
    def judge_many(self, items):
        return [Verdict(ResponseType.DISCUSSION) for _ in items]


def opened(one: Prompt, words: str | None) -> Prompt:
    turns = (Message("system", words), *one.messages) if words else one.messages
    return replace(one, messages=turns)


def adviser(generator: Scripted) -> Adviser:
    return Adviser(
        RECIPE,
        generator,
        PromptPool(PROMPTS, seed=0),
        AllTalk(),
        lambda p, v, t: Reward(float(t.content == "good")),
        None,
        most=2,
        words="Be kind.",
        opened=opened,
    )


def test_contrasts_become_lines_and_the_next_step_reads_them() -> None:
    model = Scripted("Ask for what lacks.", "1. Answer what is whole.", "ask, for what lacks", "-")
    steps = adviser(model).steps(2)
    first = next(steps)
    assert (first.reward, first.contrasts) == (0.5, 2)
    assert first.advice == ("Ask for what lacks.", "Answer what is whole.")
    compared = [text for text in model.asked if isinstance(text, str)]
    assert "all that is needed" in compared[0]
    assert "lacks something" in compared[1]
    assert compared[0].index("good") < compared[0].index("bad"), "the better reply comes first"
    # What is said again in other marks adds nothing, and neither does a dash.
    assert next(steps).advice == first.advice
    system = model.asked[4][0]
    assert system.content == (
        f"Be kind.\n\n{HEAD}\n1. Ask for what lacks.\n2. Answer what is whole."
    )


def test_a_full_list_is_written_anew() -> None:
    merged = "Here it is:\n1) Ask when unsure, please.\n2) Answer when sure, please."
    model = Scripted("Say it in short.", "Say it in long.", "Say it in words.", "No it is.", merged)
    steps = adviser(model).steps(2)
    assert next(steps).advice == ("Say it in short.", "Say it in long.")
    assert next(steps).advice == ("Ask when unsure, please.", "Answer when sure, please.")
    model = Scripted("Say it in short.", "Say it in long.", "Say it in words.", "No it is.", "?")
    *_, last = adviser(model).steps(2)
    assert last.advice == ("Say it in words.", "No it is."), "the newest, where it cannot"


def test_what_names_a_number_of_the_task_is_no_advice() -> None:
    (only,) = adviser(Scripted("The answer is always 12.", "Ask for what lacks.")).steps(1)
    assert only.advice == ("Ask for what lacks.",)


def test_lines() -> None:
    assert as_lines('Advice:\n- "Ask for it first."\n2. Then wait for it.\nok\n') == [
        "Ask for it first.",
        "Then wait for it.",
    ]
    assert as_lines(" ".join(["word"] * 41)) == []
    assert system_text(None, []) is None


class Handler(BaseHTTPRequestHandler):
    """Asks and guesses in turn; of two replies it says what the better one did."""

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        self.server.chats.append(said)
        before = sum(said == chat for chat in self.server.chats)
        text = "How many are there?" if before % 2 else "The answer is 99999."
        if "Two replies of an assistant to one task" in said[-1]["content"]:
            text = f"Say what lacks first, {'again ' * len(self.server.chats)}and wait."
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": text}}]}).encode())

    def log_message(self, *_):
        pass


def test_a_server_does_all_of_it(tmp_path, monkeypatch) -> None:
    """Groups of two from the server, their comparisons, and what the advice is worth on others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "advice.txt"
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.chats = []
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        where = ("--endpoint", url, "--model", "org/model", "--concurrency", "1")
        keys = ("prompts_per_step=2", "num_generations=2")
        done = CliRunner().invoke(advise, ["tiny", *keys, *where, "--steps", "1", "-o", str(out)])
        server.shutdown()
    assert done.exit_code == 0, done.output
    assert "step 1 of 1: reward" in done.output
    compared = [chat for chat in server.chats if "Two replies" in chat[-1]["content"]]
    assert f"{len(compared)} groups compared" in done.output
    assert compared
    better = compared[-1][-1]["content"]
    assert better.index("How many are there?") < better.index("The answer is 99999.")
    assert out.read_text().count("Say what lacks first") == len(compared)
    assert HEAD in server.chats[len(compared) + 4][0]["content"], "the advice is tried on others"


def test_on_the_command_line(tmp_path) -> None:
    """The tiny model cannot put a contrast into words: the file then holds the words alone."""
    keys = ("prompts_per_step=2", "num_generations=2", "max_completion_length=16")
    out = tmp_path / "advice.txt"
    done = CliRunner().invoke(
        advise, ["tiny", *keys, "--steps", "1", "--device", "cpu", "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "step 1 of 1: reward" in done.output
    assert (HEAD in out.read_text()) == ("no advice" not in done.output)
    refused = CliRunner().invoke(advise, ["tiny", "--endpoint", "http://x/v1", "-o", str(out)])
    assert "--endpoint URL and --model NAME go together" in refused.output
    (tmp_path / "mine.txt").write_text("a letter")
    refused = CliRunner().invoke(advise, ["tiny", "-o", str(tmp_path / "mine.txt")])
    assert "advice of an earlier" in str(refused.exception)
