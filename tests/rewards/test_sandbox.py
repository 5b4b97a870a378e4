"""The sandbox: what it grants, what it bounds, and what nobody has got out of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sandbox_attacks
from sandbox_attacks import ESCAPES, FORGERIES, OTHER_FORGERIES, TESTS, Attack

import icpo_lite
from icpo_lite.core.errors import GraderError
from icpo_lite.rewards.graders import (
    code,
    code_verdict,
    plain_values,
    process_tree,
    sandbox,
    sandbox_root,
    syscall_filter,
)
from icpo_lite.rewards.graders.code_verdict import CodeTests
from icpo_lite.rewards.graders.sandbox import Limits, Method

METHODS: tuple[Method, ...] = ("bubblewrap", "namespaces")
HERE = Path(__file__).parents[1]
needs_isolation = pytest.mark.skipif(
    bool(sandbox.why_not()), reason=f"no isolation here: {sandbox.why_not()}"
)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    if problem := sandbox.why_not_by(request.param):
        pytest.skip(f"{request.param}: {problem}")
    return request.param


# ---------------------------------------------------------------------------------------- attacks


def test_no_escape_succeeds(method: Method) -> None:
    assert len(ESCAPES) >= 30
    assert sandbox_attacks.escapes(method) == []


@needs_isolation
def test_no_forgery_passes() -> None:
    assert len(FORGERIES) + len(OTHER_FORGERIES) >= 30
    assert sandbox_attacks.forgeries() == []


def another_user() -> tuple[str, dict[str, str]] | None:
    """(a Python of this version that any user may run, its environment); None where none is."""
    packages = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    paths = [str(Path(icpo_lite.__file__).parents[1]), *packages]
    environment = {"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": ":".join(paths)}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            tried = subprocess.run(
                [python, "-c", "import icpo_lite, pydantic"],
                user=12345, group=12345, extra_groups=[], env=environment, capture_output=True,
            )  # fmt: skip
        except OSError:
            continue
        if tried.returncode == 0:
            return python, environment
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("method", METHODS)
def test_nor_does_any_as_an_ordinary_user(method: Method) -> None:
    if (found := another_user()) is None:
        pytest.skip("no Python here that another user may run")
    python, environment = found
    done = subprocess.run(
        [python, str(HERE / "sandbox_attacks.py"), method],
        user=12345, group=12345, extra_groups=[], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode == 3:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 succeed" in done.stdout


@pytest.mark.parametrize("attack", [a for a in ESCAPES if a.open_to], ids=lambda a: a.name)
def test_an_escape_is_one_without_a_sandbox(attack: Attack, tmp_path: Path) -> None:
    """Else its failure inside would say nothing."""
    with sandbox_attacks.outside() as things:
        things = {**things, "pid": os.getpid()}
        program = attack.code.format(**things)
        if "'/tmp/" in attack.code:
            program = program.replace("'/tmp/", f"'{tmp_path}/")
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
    if "PermissionError" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("this machine forbids it to everyone")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "attack", [a for a in FORGERIES if a.open_to == "one module"], ids=lambda a: a.name
)
def test_a_forgery_passes_where_reply_and_tests_share_a_module(attack: Attack) -> None:
    program = f"{attack.code}\n{TESTS}\nprint('passed', flush=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.rstrip().endswith("passed"), done.stderr


# ---------------------------------------------------------------------------------- what is inside


def test_the_root_holds_python_and_nothing_else(method: Method) -> None:
    program = (
        "import os\n"
        "for folder, _, files in os.walk('/', followlinks=False):\n"
        "    for name in files: print(os.path.join(folder, name))"
    )
    outcome = sandbox.run(program, Limits(seconds=60.0, output_bytes=1 << 22), method=method)
    assert outcome.finished, outcome.reason
    root = sandbox_root.python_root()
    shown = set(outcome.output.splitlines())
    folders = tuple(f + "/" for f in root.folders)
    strangers = {
        path
        for path in shown
        if not path.startswith(folders) and path not in root.files
        and path not in dict(root.links)
    }  # fmt: skip
    assert strangers == set()
    assert not [path for path in shown if "-packages/" in path]
    assert all(".so" in f or f == root.python or f.endswith(".zip") for f in root.files)


def test_every_extension_of_python_loads(method: Method) -> None:
    program = (
        "import bz2, ctypes, decimal, hashlib, json, lzma, sqlite3, ssl, uuid, zlib, asyncio\n"
        "async def f(): return sqlite3.connect(':memory:').execute('select 40 + 2').fetchone()\n"
        "print(asyncio.run(f()), hashlib.sha256(b'').hexdigest()[:4])"
    )
    outcome = sandbox.run(program, Limits(seconds=60.0), method=method)
    assert (outcome.finished, outcome.output) == (True, "(42,) e3b0\n"), outcome.reason


def test_a_reply_may_use_asyncio_and_its_pair_of_sockets_reaches_nobody(method: Method) -> None:
    program = (
        "import asyncio, socket\nasync def told(): return 5\nprint(asyncio.run(told()))\n"
        "for one in socket.socketpair():\n"
        "    try: one.connect('\\0x')\n    except OSError: print('nobody')\n"
    )
    outcome = sandbox.run(program, Limits(seconds=20.0), method=method)
    assert outcome.output.split() == ["5", "nobody", "nobody"]
    assert outcome.finished


def test_standard_input_arguments_and_status(method: Method) -> None:
    limits = Limits(seconds=60.0)
    echo = "import sys\nprint(input())\nprint(sys.stdin.read(), end='')\nprint(1, file=sys.stderr)"
    outcome = sandbox.run(echo, limits, stdin="a\nb\nc\n", method=method)
    assert (outcome.finished, outcome.output) == (True, "a\nb\nc\n")
    raw = sandbox.run("import os\nprint(os.read(0, 99))", limits, stdin="a\n", method=method)
    assert raw.output == "b'a\\n'\n"
    assert sandbox.run("import sys\nsys.exit()", limits, method=method).finished
    assert sandbox.run("exit('why')", limits, method=method).reason.endswith(("why", "defined"))
    assert sandbox.run("import sys\nsys.exit(3)", limits, method=method).reason == "exit status 3"
    assert "SyntaxError" in sandbox.run("1 +", limits, method=method).reason
    assert sandbox.run("x = '\ud800'", limits, method=method).finished


def test_files_of_ours_are_never_a_guests() -> None:
    """A guest that had not yet changed its root was ended for what this machine's /tmp holds."""
    assert process_tree.files([os.getpid()], "/tmp") == 0


def test_a_killed_parent_leaves_nothing_behind(method: Method, tmp_path: Path) -> None:
    mark = f"icpo-lite-left-{os.getpid()}"
    program = f"import time\nprint(1, flush=True)\ntime.sleep(60)  # {mark}"
    runner = (
        "import sys\nfrom icpo_lite.rewards.graders import sandbox\n"
        f"sandbox.run({program!r}, sandbox.Limits(seconds=60.0), method={method!r})"
    )
    parent = subprocess.Popen([sys.executable, "-c", runner])
    deadline = time.monotonic() + 60
    while len(guests := process_tree.descendants(parent.pid)) < 2:
        assert time.monotonic() < deadline, "no guest has started"
        time.sleep(0.05)
    time.sleep(0.5)
    guests = process_tree.descendants(parent.pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while left := [pid for pid in guests if _runs(pid)]:
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---------------------------------------------------------------------------------------- refusal


def test_without_any_method_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where user namespaces are off: both reasons are told, and no program starts."""
    sandbox._choice.cache_clear()
    monkeypatch.setattr(sandbox, "why_not_by", lambda method: f"{method} is off")
    try:
        with pytest.raises(GraderError, match=r"bubblewrap: bubblewrap is off; namespaces: names"):
            sandbox.run("print(1)")
        assert "namespaces is off" in sandbox.why_not()
    finally:
        sandbox._choice.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take namespaces away")
def test_a_system_without_user_namespaces_is_refused_with_the_reason() -> None:
    if (found := another_user()) is None:
        pytest.skip("no Python here that another user may run")
    python, environment = found
    told = (
        "from icpo_lite.rewards.graders import sandbox\nprint(sandbox.why_not())\n"
        "try: sandbox.run('print(1)')\nexcept Exception as error: print(type(error).__name__)"
    )
    # A user namespace that may hold no further one.
    around = ["unshare", "--user", "--map-root-user", "sh", "-c",
              "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"", "sh"]  # fmt: skip
    done = subprocess.run(
        [*around, "setpriv", "--bounding-set=-all", "--inh-caps=-all", python, "-c", told],
        user=12345, group=12345, extra_groups=[], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if "max_user_namespaces" in done.stderr:
        pytest.skip("namespaces cannot be taken away here")
    assert done.stdout.splitlines()[-1] == "GraderError", done.stdout + done.stderr
    assert "namespaces:" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights up")
@pytest.mark.parametrize(
    "around",
    [
        ["setpriv", "--bounding-set=-sys_admin"],
        ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "unshare", "--user",
         "--map-root-user"],
    ],
    ids=["root without the right to mount", "root of a user namespace"],
)  # fmt: skip
def test_root_of_a_container_isolates_too(around: list[str]) -> None:
    if (found := another_user()) is None:
        pytest.skip("no Python here that another user may run")
    python, environment = found
    program = "import os\nprint(os.getuid() != 0, os.listdir('/tmp'), os.path.exists('/etc'))"
    told = (
        "from icpo_lite.rewards.graders import sandbox\n"
        f"print(sandbox.run({program!r}, sandbox.Limits(seconds=60.0), method='namespaces').output)"
    )
    done = subprocess.run(
        [*around, python, "-c", told], env=environment, capture_output=True, text=True, check=False
    )
    if "unshare:" in done.stderr or "setpriv:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.strip() == "True [] False", done.stderr


def test_a_machine_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert sandbox_root.machine_problem() == "there is no system-call filter for riscv64"
    monkeypatch.setattr("sys.platform", "darwin")
    assert sandbox_root.machine_problem() == "darwin has no namespaces"


def test_a_guest_that_does_not_start_is_an_error_not_a_wrong_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if problem := sandbox.why_not_by("namespaces"):
        pytest.skip(problem)
    root = sandbox_root.python_root()
    broken = type(root)(root.python, ("/no/such/folder",), root.files, root.links, (), "")
    monkeypatch.setattr(sandbox_root, "python_root", lambda: broken)
    with pytest.raises(GraderError, match=r"expected the sandbox to start, found isolation: mount"):
        sandbox.run("print(1)", method="namespaces")


# ----------------------------------------------------------------------------------- system calls


def test_the_filter_names_the_kernels_own_numbers() -> None:
    headers = {
        "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "aarch64": "/usr/include/asm-generic/unistd.h",
    }
    tried = 0
    for machine, header in headers.items():
        if not Path(header).exists():
            continue
        known = {}
        for line in Path(header).read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "#define" and words[2].isdigit():
                known[words[1].removeprefix("__NR_").removeprefix("__NR3264_")] = int(words[2])
        for name, number in syscall_filter.refused(machine).items():
            assert known.get(name, number) == number, (machine, name)
            tried += name in known
    if not tried:
        pytest.skip("no kernel headers here")
    assert tried > 50


def test_both_filters_are_programs_that_the_kernel_would_take() -> None:
    """Each instruction is eight bytes, and no jump leaves the program."""
    for machine in ("x86_64", "aarch64"):
        program = syscall_filter.build(machine)
        steps = [program[i : i + 8] for i in range(0, len(program), 8)]
        for at, step in enumerate(steps):
            if int.from_bytes(step[:2], "little") & 7 == 5:  # a jump
                assert at + 1 + max(step[2], step[3]) < len(steps)
        assert steps[-1][0] == 6, "it ends in a return"


# -------------------------------------------------------------------------------------- the values


def values() -> list[Any]:
    import datetime
    from collections import Counter, OrderedDict, deque
    from decimal import Decimal
    from fractions import Fraction

    return [
        *(None, True, False, 0, -1, 2**63, -(2**200), 10**5000, 0.1, float("inf"), "", "ü\ud800\0"),
        *([], [1, [2]], (), (1, (2,)), {1, 2}, frozenset({"a"}), {}, {1: {"a": [()]}}, b"\0\xff"),
        *(bytearray(b"a"), 1 + 2j, range(3, 9, 2), deque([1, 2]), Counter("aab")),
        *(OrderedDict(a=1), Fraction(1, 3), Decimal("1.10"), datetime.date(2024, 2, 29)),
        *(
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
            datetime.time(1, 2),
            datetime.timedelta(3, 4),
        ),
    ]


@pytest.mark.parametrize("value", values(), ids=lambda v: type(v).__name__)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    again = plain_values.decode(plain_values.encode(value))
    assert again == value
    assert type(again) is type(value)


def test_named_tuples_and_default_dictionaries_arrive_as_plain_ones() -> None:
    from collections import defaultdict, namedtuple

    pair = namedtuple("pair", "a b")(1, 2)
    assert plain_values.decode(plain_values.encode(pair)) == (1, 2)
    counted = defaultdict(int, a=1)
    assert type(plain_values.decode(plain_values.encode(counted))) is dict


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [Liar(3), object(), Liar, len, [Liar(3)], NotImplemented, ...])
def test_what_is_no_plain_value_does_not_pass(value: Any) -> None:
    with pytest.raises(plain_values.NotPlainError):
        plain_values.encode(value)


def test_bytes_that_are_no_value_are_refused() -> None:
    import random

    rng = random.Random(0)
    whole = [plain_values.encode(value) for value in values()]
    for _ in range(5000):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(3)] = rng.choice([b"", b"\xff", b"[", b"*", b"@", b"I"])
        try:
            plain_values.decode(bytes(data))
        except plain_values.NotPlainError:
            continue
    for deep in (b"[" + (1).to_bytes(8, "big"), b"*"):
        with pytest.raises(plain_values.NotPlainError):
            plain_values.decode(deep * 100_000)


# -------------------------------------------------------------------------------------- verdicts

LIMITS = Limits(seconds=30.0)


@needs_isolation
@pytest.mark.parametrize(
    ("reply", "tests", "columns"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2", {}),
        ("def f(x): return [x]", ["assert f(1) == [1]", "assert f('a') == ['a']"], {}),
        ("def f(x):\n    x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]", {}),
        ("def sum(a, b): return a * b", "assert sum(10, 15) == 150", {}),
        ("def gcd(a, b): return 'own'", "assert gcd(4, 6) == 'own'", {}),
        ("import math\ndef f(x): return x / 3", "assert math.isclose(f(1), 1 / 3)", {}),
        ("def f(x): raise ValueError('x')",
         "try:\n    f(1)\n    assert False\nexcept ValueError: pass", {}),
        ("class P:\n    def __init__(self, a): self.a = a\ndef f(ps): return [p.a for p in ps]",
         "assert f([P(3), P(4)]) == [3, 4]", {}),
        ("class S:\n    def __init__(self): self.x = []\n    def push(self, a): self.x.append(a)\n"
         "    def pop(self): return self.x.pop()\n    def __len__(self): return len(self.x)",
         "s = S()\ns.push(3)\ns.push(4)\nassert s.pop() == 4\nassert len(s) == 1", {}),
        ("def f(n):\n    for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2]", {}),
        ("def f(n):\n    yield n", "i = f(3)\nassert next(i) == 3\nassert next(i, 0) == 0", {}),
        ("def f(g, xs): return sorted(xs, key=g)", "assert f(lambda x: -x, [1, 2]) == [2, 1]", {}),
        ("def f(g, xs): return [g(x) for x in xs]", "assert f(len, ['a', 'bb']) == [1, 2]", {}),
        ("from collections import Counter\ndef f(x): return Counter(x)",
         "assert f('aab') == {'a': 2, 'b': 1}", {}),
        ("def f(n):\n    r = 1\n    for i in range(1, n + 1): r *= i\n    return r",
         "import math\nassert f(3000) == math.factorial(3000)", {}),
        ("def f(x): print('talks'); return x", "assert f(1) == 1", {}),
        ("def f(x): return x\nif __name__ == '__main__':\n    input()", "assert f(1) == 1", {}),
        ("def root(x) -> List[int]: return [x]",
         "def check(candidate):\n    assert candidate(1) == [1]",
         {"entry_point": "root",
          "code_prompt": "from typing import List\n\ndef root(x) -> List[int]:\n"
          "    '''One.'''\n"}),
        ("def f(x): return poly(x)", "def check(candidate):\n    assert candidate(1) == poly(1)",
         {"entry_point": "f",
          "code_prompt": "def poly(x): return x * 7\n\ndef f(x):\n    '''a'''\n"}),
        ("class Solution:\n    def two(self, x): return (x, x)",
         [{"input": [1], "output": [1, 1]}], {"fn_name": "two"}),
        ("def two(x): return (x, x)", [{"input": [1], "output": [1, 1]}], {"fn_name": "two"}),
        ("def f(x): return x",
         "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
         "        self.assertEqual(f(1), 1)\n"
         "r = unittest.main(argv=['x'], exit=False).result\n"
         "assert r.testsRun and r.wasSuccessful()", {}),
        ("print(int(input()) + 1)\nimport sys\nsys.exit()", [{"input": "3\n", "output": "4"}], {}),
        ("def f(x): return x", "assert candidate(3) == 3", {"entry_point": "f"}),
    ],
)  # fmt: skip
def test_right_replies_pass(reply: str, tests: Any, columns: dict[str, Any]) -> None:
    assert code.correct(reply, tests, columns, LIMITS) == (True, "")


@needs_isolation
@pytest.mark.parametrize(
    ("tests", "columns", "words"),
    [
        ("assert f(1) ==", {}, "expected tests in Python"),
        ("assert f(1) == 1", {"setup": "1 +"}, "the row's setup lines are no Python"),
        ("assert f(1) == 1", {"setup": "import no_such_module"}, "the row's setup lines fail"),
        ("class N: pass\nassert f(N()) == 1", {}, "a test hands over what cannot be sent"),
    ],
)
def test_a_rows_own_fault_is_an_error(tests: str, columns: dict[str, Any], words: str) -> None:
    with pytest.raises(GraderError, match=words):
        code.correct("def f(x): return 1", tests, columns, LIMITS)


@needs_isolation
@pytest.mark.parametrize(
    ("reply", "test"),
    [
        # A value that is too much to be handed on, and one of another type than was expected.
        ("def f(x): return [0] * 1500000\ndef g(x): return x", "assert g(f(1)) == 1"),
        ("def f(x): return {1: 2}\ndef g(x): return x", "assert g(iter(f(1))) == 1"),
        ("big = [0] * 1500000\ndef g(x): return x", "assert g(big) == 1"),
        ("def g(h): return h({1: 2})", "assert g(iter) == 1"),
        ("def g(h): return h()", "assert g(lambda: object()) == 1"),
        ("def g(h): return h(10 ** 9)", "assert g(range(3).index.__self__.__class__) == 1"),
    ],
)
def test_a_reply_cannot_make_its_row_look_faulty(reply: str, test: str) -> None:
    """A fault of the row ends a run; a wrong reply does not."""
    assert code.correct(reply, test, {}, LIMITS)[0] is False


@needs_isolation
def test_each_test_has_the_time_to_itself() -> None:
    reply = "import time\ndef f(x):\n    time.sleep(0.9)\n    return x"
    sources = tuple(f"assert f({n}) == {n}" for n in range(3))
    row = CodeTests(sources=sources)
    assert code_verdict.passes(reply, row, Limits(seconds=2.0))[0]
    slow = reply.replace("0.9", "9")
    assert code_verdict.passes(slow, row, Limits(seconds=1.0)) == (False, "no end within 1 s")


HUMANEVAL = Path(__file__).parents[3] / "shared" / "data" / "humaneval.jsonl"


@needs_isolation
@pytest.mark.skipif(not HUMANEVAL.exists(), reason="no HumanEval here")
@pytest.mark.parametrize("number", [0, 32, 38, 50, 100, 163])
def test_published_solutions_pass(number: int) -> None:
    row = json.loads(HUMANEVAL.read_text().splitlines()[number])
    columns = {"entry_point": row["entry_point"], "code_prompt": row["prompt"]}
    reply = row["prompt"] + row["canonical_solution"]
    assert code.correct(reply, row["test"], columns, LIMITS) == (True, "")
    stub = row["prompt"] + "    return None\n"
    assert not code.correct(stub, row["test"], columns, LIMITS)[0]
