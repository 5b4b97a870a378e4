"""README and the guide: short, linked, made from the code, and every command in them runs."""

import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from statistics import mean

import click
import pages
import pytest
from claims import objectives

from icpo_lite import cli
from icpo_lite.cli.docs import topics

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *topics().values()]
FENCE = re.compile(r"(?:<!-- (not run[^>]*) -->\n)?```bash\n(.*?)```", re.DOTALL)
#: What a command gets here so that it is done in seconds.
QUICK = {
    "train": (
        *("max_steps=1", "prompts_per_step=2", "num_generations=2", "num_mini_batches=1"),
        *("compare={}", "device=cpu", "evaluation.problems=2", "evaluation.runs=1"),
        "evaluation.settings=[full]",
    ),
    "eval": ("--problems", "2", "--runs", "1", "--device", "cpu"),
    "export": ("--prompts", "1", "--device", "cpu"),
    "chat": ("--device", "cpu"),
    "check": ("--sample", "4", "--guesses", "1"),
}
PROBLEMS = [
    {
        "question": f"Ann has {n} boxes. Each box holds {n + 9} pens. How many pens has she?",
        "answer": n * (n + 9),
    }
    for n in range(3, 43)
]


def commands(page):
    """The lines of the page's blocks that run here."""
    blocks = [text for mark, text in FENCE.findall(page.read_text("utf-8")) if not mark]
    return [line for text in blocks for line in text.splitlines() if line.strip()]


def test_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_what_is_made_is_as_the_code_and_the_figures_make_it():
    """`python tests/pages.py` writes it."""
    for file, text in pages.made_pages().items():
        assert file.read_text("utf-8") == text, f"{file.name} differs; run python tests/pages.py"


def test_readmes_figures_of_objectives_are_those_of_the_table():
    measured = json.loads((pages.CLAIMS / "reading_list.json").read_text("utf-8"))
    means = {
        name: mean(run["SHARDED P"] for run in runs) for name, runs in measured["results"].items()
    }
    line = PAGES[0].read_text("utf-8").split("[54 objectives]")[1].partition("\n")[0]
    told = dict(re.findall(r"`(\w+)` (\d+\.\d)", line))
    assert len(told) == 4
    assert told == {name: f"{means[name]:.1f}" for name in told}
    assert f"base {measured['base']['SHARDED P']:.1f}" in line
    arms = objectives.ARMS
    assert len(arms) == 54
    older = json.loads((pages.CLAIMS / "objectives.json").read_text("utf-8"))
    assert arms.keys() == measured["results"].keys() | older["results"].keys()


def test_every_key_of_a_recipe_is_on_its_page():
    text = topics()["keys"].read_text("utf-8")
    for key in pages.Recipe.model_fields:
        assert f"### `{key}`" in text


def slug(heading):
    """The anchor that a Markdown reader makes of a heading."""
    plain = re.sub(r"[^\w\- ]", "", heading.lower().strip())
    return plain.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    for link in links:
        assert "://" not in link, f"{link}: a page of elsewhere is not looked at here"
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {link}"


def test_every_topic_is_reached_from_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in topics():
        assert f"](icpo_lite/docs/{name}.md" in text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_within_sentences_have_the_options_that_they_name(page):
    text = page.read_text("utf-8").replace("\n", " ")
    for name, rest in re.findall(r"`icpo-lite ([a-z]+)((?: [^`]*)?)`", text):
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None, name
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        assert {*re.findall(r"(?<!\S)--[a-z-]+", rest)} <= known, f"{name}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_no_registry_is_assumed_to_have_the_package(page):
    for line in page.read_text("utf-8").splitlines():
        if "pip install" in line and "icpo-lite" in line:
            assert " @ " in line or " -e ." in line, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_blocks_that_do_not_run_say_why(page):
    for mark, text in FENCE.findall(page.read_text("utf-8")):
        assert not mark or ":" in mark
        if not mark:
            assert all(line.startswith("icpo-lite ") for line in text.splitlines() if line), text


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run that the pages take for granted."""
    place = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert cli.run(["train", "tiny", *QUICK["train"]]) == 0
    return place


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_every_command_of_a_page_runs(page, trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [json.dumps(row) for row in PROBLEMS]
    Path("problems.jsonl").write_text("\n".join(rows) + "\n")
    lines = [f'"{row["question"]}",{row["answer"]}' for row in PROBLEMS]
    Path("problems.csv").write_text("\n".join(["question,answer", *lines]) + "\n")
    Path("replies.jsonl").write_text('{"assistant": "The answer is 7.", "task": "math"}\n')
    for line in commands(page):
        monkeypatch.setattr(sys, "stdin", io.StringIO("How many apples?\n/exit\n"))
        program, name, *rest = shlex.split(line, comments=True)
        assert program == "icpo-lite"
        code = cli.run([name, *rest, *QUICK.get(name, ())])
        said = capsys.readouterr()
        assert code == 0, f"{line}\n{said.out[-2000:]}{said.err[-2000:]}"
        last = said.out + said.err
        assert "Next: icpo-lite " in last or name == "export", f"{line} ends without the next one"


def test_a_runs_readme_is_its_card_with_its_figures(trained):
    text = (trained / "runs" / "tiny" / "README.md").read_text("utf-8")
    assert text.startswith("---\n")
    assert "library_name: peft" in text
    assert "# tiny" in text
    assert re.search(r"\([\d,]+ tokens sampled, \d+:\d\d of steps, on CPU\)", text)
    assert re.search(r"\| FULL P \| [\d.]+ ", text)
    assert "AutoPeftModelForCausalLM" in text
    assert "Does it equal the adapter?" not in text


def test_docs_in_the_terminal(capsys):
    assert cli.run(["docs"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in topics())
    for name in topics():
        assert cli.run(["docs", name]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("# ")
        assert "<!--" not in shown
    assert cli.run(["docs", "lr"]) == 0
    assert "### `learning_rate`" in capsys.readouterr().out
    assert cli.run(["docs", "evalution"]) == 2
    assert "did you mean evaluation?" in capsys.readouterr().err
