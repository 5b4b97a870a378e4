"""The log-prob path on this machine, beside plain torch and the peers that are installed.

Every method computes the same thing: the loss Σ a_n · log p(target_n) over N rows, forward and
backward, lm_head frozen. Its time is read against the machine's own matmul rate, measured in the
same run on the same D and V: one pass is 2·N·D·V operations, two are the least. Methods take
turns and each is compared with the matmuls of its own turn, so that a machine that slows down
slows both; medians are reported.

Logits have an entropy of 0.3 to 1 nat, as a trained model's: nearly uniform random logits would
let cut-cross-entropy's filter skip every tile. Targets are sampled from the model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch

from icpo_lite.core.errors import DeviceError
from icpo_lite.policy.kernels.check import Outputs as Checked
from icpo_lite.policy.kernels.check import allowances, errors, true_outputs
from icpo_lite.policy.kernels.logprob import Impl, choose_impl, token_logprobs
from icpo_lite.tools.bench.live_bytes import ExtraBytes
from icpo_lite.tools.bench.logprob_methods import PEERS, LogProbs, Method, Shape, by_reference
from icpo_lite.tools.bench.machine import machine, version_of, versions

#: Mean entropy in nats that the logits are tuned to.
ENTROPY = 0.6
#: Rows whose log-probs and gradients are compared with float64.
CHECKED_ROWS = 32
#: The matmul rate is measured on at most this many rows.
RATE_ROWS = 8192
#: A peer computes "the same numbers" within this multiple of what plain torch is allowed.
PEER_FACTOR = 4.0


@dataclass
class Row:
    """What was measured of one method at one shape and N. `status` is ok, or says why not."""

    method: str
    shape: str
    tokens: int
    version: str = ""
    entropy: bool = False  # computed beside the log-probs
    status: str = "ok"
    seconds: list[float] = field(default_factory=list)
    median_seconds: float | None = None
    passes: float | None = None  # time · matmul rate of the same turn / (2·N·D·V), median
    share_of_matmul_rate: float | None = None  # 2 / passes
    extra_bytes: int | None = None  # peak beyond inputs, [N, D] of gradient included
    logp_error: float | None = None  # largest absolute error against float64
    grad_error: float | None = None  # the same, relative to the largest gradient element


class Problem(NamedTuple):
    hidden: torch.Tensor  # [N, D]
    weight: torch.Tensor  # [V, D]
    targets: torch.Tensor  # [N]
    coefficients: torch.Tensor  # [N], fp32


def default_setup(*, force_cpu: bool = False) -> tuple[torch.device, torch.dtype, str, str]:
    """(device, dtype, shapes, tokens) for this machine: bf16 from compute capability 8 on."""
    if force_cpu or not torch.cuda.is_available():
        return torch.device("cpu"), torch.float32, "small", "512"
    modern = torch.cuda.get_device_capability()[0] >= 8
    dtype = torch.bfloat16 if modern else torch.float16
    return torch.device("cuda"), dtype, "qwen2.5-7b,llama-3.1-8b,gemma-2-2b", "4096,16384"


# --- the measurement --------------------------------------------------------------------------


def run_bench(
    shapes: Iterable[Shape],
    tokens: Iterable[int],
    methods: Iterable[Method],
    *,
    device: torch.device,
    dtype: torch.dtype,
    repeats: int = 7,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure everything; the report is plain data for JSON (`markdown` makes the table)."""
    report: dict[str, Any] = {
        "command": command,
        "machine": machine(device),
        "versions": versions(["triton", *(peer.package for peer in PEERS if peer.package)]),
        "dtype": str(dtype).removeprefix("torch."),
        "entropy_goal_nats": ENTROPY,
        "matmul": [],
        "rows": [],
    }
    methods = tuple(methods)
    for shape in shapes:
        for count in tokens:
            say(f"{shape.name}: V {shape.vocabulary}, D {shape.hidden}, N {count}")
            problem, entropy = make_problem(shape, count, device, dtype)
            rows, matmul = _measure(methods, problem, shape, repeats, say)
            report["matmul"].append(
                {"shape": shape.name, "tokens": count, "entropy_nats": entropy, **matmul}
            )
            report["rows"] += [asdict(row) for row in rows]
    return report


def make_problem(
    shape: Shape, count: int, device: torch.device, dtype: torch.dtype
) -> tuple[Problem, float]:
    """Hidden states whose logits have a mean entropy near ENTROPY, and that entropy.

    Logits are noise of standard deviation 2.5 plus, on one planted token a row, a margin that is
    found by bisection on 32 rows.
    """
    noise = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=noise, device=device)

    weight = (normal(shape.vocabulary, shape.hidden) / shape.hidden**0.5).to(dtype)
    planted = torch.randint(shape.vocabulary, (count,), generator=noise, device=device)
    direction = weight[planted].float()
    direction /= direction.square().sum(1, keepdim=True)
    base = normal(count, shape.hidden) * 2.5

    def mean_entropy(rows: torch.Tensor, targets: torch.Tensor) -> float:
        with torch.no_grad():
            outputs = token_logprobs(
                rows.to(dtype), weight, targets, softcap=shape.softcap, impl="torch"
            )
        return float(outputs[1].mean())

    few = slice(0, min(32, count))
    low, high = 0.0, 64.0
    for _ in range(12):
        margin = (low + high) / 2
        entropy = mean_entropy(base[few] + margin * direction[few], planted[few])
        low, high = (margin, high) if entropy > ENTROPY else (low, margin)
    hidden = (base + margin * direction).to(dtype)
    targets = _sampled(hidden, weight, shape, noise)
    coefficients = normal(count)
    return Problem(hidden, weight, targets, coefficients), mean_entropy(hidden[few], planted[few])


def _sampled(
    hidden: torch.Tensor, weight: torch.Tensor, shape: Shape, noise: torch.Generator
) -> torch.Tensor:
    """One token a row from the model's own distribution, 128 rows at a time."""
    tokens = []
    for rows in hidden.split(128):
        logits = (rows @ weight.t()).float()
        if shape.softcap is not None:
            logits = shape.softcap * torch.tanh(logits / shape.softcap)
        tokens.append(torch.multinomial(logits.softmax(-1), 1, generator=noise).squeeze(1))
    return torch.cat(tokens)


def _measure(
    methods: Iterable[Method],
    problem: Problem,
    shape: Shape,
    repeats: int,
    say: Callable[[str], None],
) -> tuple[list[Row], dict[str, Any]]:
    count = len(problem.targets)
    truth = _Truth.of(problem, shape)
    rows, steps = [], {}
    for method in methods:
        version = version_of(method.package)
        row = Row(method.name, shape.name, count, version=version, entropy=method.entropy)
        rows.append(row)
        step = _prepared(method, row, problem, shape, truth)
        if step is not None:
            steps[method.name] = step
        say(f"  {method.name}: {row.status}")
    matmuls = _matmuls(problem)
    matmul_times: list[float] = []
    synchronise = _synchroniser(problem.hidden.device)
    by_name = {row.method: row for row in rows}
    _timed(matmuls, synchronise)
    for _ in range(repeats):
        matmul_times.append(_timed(matmuls, synchronise))
        for name, step in steps.items():
            by_name[name].seconds.append(_timed(step, synchronise))
    measured = min(count, RATE_ROWS)
    per_pass = 2.0 * shape.hidden * shape.vocabulary
    rate = 2 * per_pass * measured / statistics.median(matmul_times)
    for row in rows:
        if row.seconds:
            row.median_seconds = statistics.median(row.seconds)
            ratios = (mine / both for mine, both in zip(row.seconds, matmul_times, strict=True))
            row.passes = 2 * statistics.median(ratios) * measured / count
            row.share_of_matmul_rate = 2.0 / row.passes
    return rows, {"rows": measured, "seconds": matmul_times, "tflops": rate / 1e12}


def _prepared(
    method: Method, row: Row, problem: Problem, shape: Shape, truth: _Truth
) -> Callable[[], Any] | None:
    """The method's step after a first, counted and checked one; None where it cannot run."""
    device = problem.hidden.device
    if method.package is not None and not row.version:
        row.status = "not installed"
        return None
    if method.cuda_only and device.type != "cuda":
        row.status = "needs an NVIDIA GPU"
        return None
    try:
        if method.name in ("triton", "tiled"):
            impl: Impl = "tiled" if method.name == "tiled" else "triton"
            choose_impl(device, problem.hidden.dtype, impl)
        step = _step(method.load(), problem, shape)
        step()  # compiles and tunes; the second one is counted
        with ExtraBytes(*problem) as extra:
            logp, grad = step()
    except DeviceError as error:
        row.status = str(error)
        return None
    except torch.cuda.OutOfMemoryError:
        row.status = "out of memory"
        torch.cuda.empty_cache()
        return None
    except Exception as error:  # a peer's own failure, of any type: recorded, never hidden
        if method.package is None:
            raise
        row.status = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return None
    row.extra_bytes = extra.bytes
    truth.judge(row, logp, grad, own=method.package is None)
    return step


def _step(
    logprobs: LogProbs, problem: Problem, shape: Shape
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Forward and backward of the loss; returns log-probs [N] and the gradient [N, D]."""

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        hidden = problem.hidden.detach().requires_grad_()
        logp = logprobs(hidden, problem.weight, problem.targets, shape)
        (problem.coefficients * logp).sum().backward()
        assert hidden.grad is not None
        return logp.detach(), hidden.grad

    return step


def _matmuls(problem: Problem) -> Callable[[], None]:
    """The two matmuls alone, results in the inputs' dtype, into memory that is already there."""
    hidden = problem.hidden[:RATE_ROWS]
    logits = hidden.new_zeros(len(hidden), len(problem.weight))
    out = torch.zeros_like(hidden)

    def both() -> None:
        torch.mm(hidden, problem.weight.t(), out=logits)
        torch.mm(logits, problem.weight, out=out)

    return both


def _synchroniser(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def _timed(step: Callable[[], Any], synchronise: Callable[[], None]) -> float:
    synchronise()
    start = time.perf_counter()
    step()
    synchronise()
    return time.perf_counter() - start


class _Truth(NamedTuple):
    """Float64 values of the first rows, and what plain torch is allowed to miss them by."""

    outputs: Checked
    allowed: tuple[float, float, float]
    coefficients: torch.Tensor

    @classmethod
    def of(cls, problem: Problem, shape: Shape) -> _Truth:
        few = slice(0, CHECKED_ROWS)
        hidden, targets = problem.hidden[few], problem.targets[few]
        truth, largest_z, largest_term = true_outputs(
            hidden, problem.weight, targets, softcap=shape.softcap
        )
        few_rows = problem._replace(
            hidden=hidden, targets=targets, coefficients=torch.ones_like(problem.coefficients[few])
        )
        logp, grad = _step(by_reference(), few_rows, shape)()
        plain = errors(Checked(logp, truth.entropy, grad), truth)
        allowed = allowances(plain, hidden.dtype, largest_z, largest_term)
        return cls(truth, allowed, problem.coefficients[few])

    def judge(self, row: Row, logp: torch.Tensor, grad: torch.Tensor, *, own: bool) -> None:
        """Fill in the errors; ours must keep what plain torch is allowed, a peer four times it."""
        few = slice(0, CHECKED_ROWS)
        weights = self.coefficients[:, None].double()
        truth = self.outputs._replace(grad=self.outputs.grad * weights)
        found = errors(Checked(logp[few], truth.entropy, grad[few]), truth)
        row.logp_error = found[0]
        row.grad_error = found[2] / max(float(truth.grad.abs().max()), 1e-30)
        slack = 1.0 if own else PEER_FACTOR
        largest = max(1.0, float(weights.abs().max()))
        if found[0] > slack * self.allowed[0] or found[2] > slack * self.allowed[2] * largest:
            row.status = "other numbers"


# --- the report -------------------------------------------------------------------------------


def markdown(report: Mapping[str, Any]) -> str:
    """The report's rows as a Markdown table, with a line about the machine and the command."""
    hardware = report["machine"]
    where = hardware.get("gpu") or f"{hardware['cpu']}, {hardware['threads']} threads"
    known = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    head = ["shape", "N", "method", "entropy", "time", "passes", "of matmul rate", "extra"]
    lines = [
        f"{where}, {report['dtype']}; {known}",
        f"`{report['command']}`",
        "",
        f"| {' | '.join([*head, 'logp err', 'grad err', 'status'])} |",
        "|" + "---|" * (len(head) + 3),
    ]
    for row in report["rows"]:
        names = [row["shape"], str(row["tokens"]), row["method"]]
        cells = [*names, "yes" if row["entropy"] else "no", *_numbers(row), row["status"]]
        lines.append(f"| {' | '.join(cells)} |")
    for rate in report["matmul"]:
        lines += [
            "",
            f"{rate['shape']}, N {rate['tokens']}: the two matmuls alone run at "
            f"{rate['tflops']:.4g} TFLOP/s; mean entropy {rate['entropy_nats']:.2f} nat.",
        ]
    return "\n".join(lines)


def _numbers(row: Mapping[str, Any]) -> list[str]:
    if row["median_seconds"] is None:
        return ["–"] * 6
    return [
        f"{row['median_seconds'] * 1e3:.1f} ms",
        f"{row['passes']:.2f}",
        f"{row['share_of_matmul_rate']:.2f}",
        f"{row['extra_bytes'] / 1e6:.0f} MB",
        f"{row['logp_error']:.1e}",
        f"{row['grad_error']:.1e}",
    ]
