"""What only a GPU can show, small: the kernel, NF4 gradients, sampling, a step, a full memory.

ICPO_TEST_DEVICE=cpu runs the same code on a CPU, as `run.sh --device cpu --shapes tiny` does.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from kernels_cases import errors, four_ulps, make_case, on_device, ours, plain, truth_of
from model_families import save_family
from policies import model_keys

from icpo_lite.core.console import Display
from icpo_lite.core.files import read_metrics
from icpo_lite.core.types import Message
from icpo_lite.policy.kernels.logprob import choose_impl, token_logprobs
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import LogprobOptions, completion_logprobs, hidden_states
from icpo_lite.recipe import load_recipe
from icpo_lite.rollout.sampler import SamplingOptions, sample
from icpo_lite.runs import train as run_module

pytestmark = pytest.mark.gpu
DEVICE = torch.device(os.environ.get("ICPO_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"
#: (N, D, V): the 7B's output layer where there is a GPU.
SHAPE = (300, 3584, 152_064) if ON_GPU else (40, 64, 500)
TEXTS = ("Ann has 3 apples. How many?", "How many figs does Kim have after shopping?")


def half_types():
    if not ON_GPU:
        return [torch.float32]
    return [
        torch.float16,
        *([torch.bfloat16] if torch.cuda.get_device_capability() >= (8, 0) else []),
    ]


def test_the_kernel_against_float64_at_the_7bs_size():
    """Relative to plain torch in the same dtype, as everywhere: at most twice its error."""
    n, d, v = SHAPE
    for dtype in half_types():
        case = on_device(make_case(n, d, v, dtype=dtype, sharpness=3.0, temperature=0.9), DEVICE)
        impl, why = choose_impl(DEVICE, dtype)
        assert impl == "triton" or not ON_GPU, why
        truth = truth_of(case, entropy=False)
        found = errors(ours(case, impl, entropy=False, token_logprobs=token_logprobs), truth)
        same = errors(plain(case, dtype, entropy=False)[2], truth)
        for one, other, floor in zip(found, same, four_ulps(truth, dtype), strict=True):
            assert one <= max(2 * other, floor), (dtype, found, same)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_family(tmp_path_factory.mktemp("qwen2"), "qwen2", scale=2.0)


def prompts_of(policy):
    return [policy.encode_chat([Message("user", text)]) for text in TEXTS]


def draw(policy, n=4, **options):
    keys = [("gpu", i) for i in range(len(TEXTS))]
    chosen = SamplingOptions(max_new_tokens=16, **options)
    return sample(policy, prompts_of(policy), n=n, options=chosen, keys_P=keys)


def test_sampling_is_the_same_twice_and_its_log_probs_are_those_of_training(folder):
    policy = load_policy(model_keys(str(folder), device=DEVICE.type, lora_r=4))
    first, again = draw(policy), draw(policy)
    assert [[c.token_ids for c in g] for g in first] == [[c.token_ids for c in g] for g in again]
    for prompt, group in zip(prompts_of(policy), first, strict=True):
        for reply in group:
            ids = torch.tensor([[*prompt, *reply.token_ids]], device=DEVICE)
            mask = torch.zeros(1, ids.shape[1] - 1, dtype=torch.bool, device=DEVICE)
            mask[:, len(prompt) - 1 :] = True
            with torch.no_grad():
                logps, _ = completion_logprobs(
                    policy, ids, torch.ones_like(ids), mask, LogprobOptions()
                )
            seen = torch.tensor(reply.logprobs, device=DEVICE)
            # Two orders of summation in 16 bit: a hundredth of a nat on average.
            assert (logps[mask] - seen).abs().mean() < 0.02


def test_gradients_through_nf4_are_those_of_the_weights_it_stands_for(folder):
    """LoRA's gradients with 4-bit layers against the dequantised weights in float32."""
    policy = load_policy(model_keys(str(folder), device=DEVICE.type, lora_r=4))
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    draw(policy, n=2)  # a no-grad forward before it: some CPUs repack weights there
    ids = torch.tensor([prompts_of(policy)[0]], device=DEVICE)
    mask = torch.ones(1, ids.shape[1] - 1, dtype=torch.bool, device=DEVICE)

    def gradients(which):
        which.model.zero_grad()
        logps, _ = completion_logprobs(which, ids, torch.ones_like(ids), mask, LogprobOptions())
        logps.sum().backward()
        found = {n: p.grad.float() for n, p in which.model.named_parameters() if p.requires_grad}
        return {n: g.clone() for n, g in found.items()}

    quantised = gradients(policy)
    wide = load_policy(model_keys(str(folder), device=DEVICE.type, lora_r=4, load_in_4bit=False))
    replace_by_dequantised(policy, wide)
    wide.model.float()
    for name, gradient in gradients(wide).items():
        cosine = torch.cosine_similarity(gradient.flatten(), quantised[name].flatten(), dim=0)
        assert cosine > 0.99, (name, float(cosine))


def replace_by_dequantised(policy, wide):
    from bitsandbytes.functional import dequantize_4bit

    theirs = dict(policy.model.named_modules())
    with torch.no_grad():
        for name, module in wide.model.named_modules():
            packed = getattr(getattr(theirs[name], "weight", None), "quant_state", None)
            if packed is not None:
                module.weight.copy_(dequantize_4bit(theirs[name].weight.data, packed))
        own = dict(wide.model.named_parameters())
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                own[name].copy_(parameter)


def test_one_step_of_training(tmp_path):
    recipe = load_recipe(
        "tiny",
        [
            *(f"output_dir={tmp_path / 'run'}", f"device={DEVICE.type}", "max_steps=1"),
            *("prompts_per_step=4", "num_generations=4", "evaluation.enabled=false", "compare={}"),
            *("optim=paged_adamw_8bit" if ON_GPU else "optim=adamw_torch", "beta=0.01"),
            "gradient_checkpointing=true",
        ],
    )
    run_module.train(recipe, Display(total=1, live=False, file=(tmp_path / "out").open("w")))
    (row,) = read_metrics(tmp_path / "run")
    assert row["grad_norm"] > 0
    assert row["sampling/sampling_logp_difference/mean"] < 0.05


@pytest.mark.skipif(not ON_GPU, reason="a CPU's memory cannot be capped by torch")
def test_sampling_splits_its_batch_where_the_gpus_memory_ends(folder):
    policy = load_policy(model_keys(str(folder), device="cuda", lora_r=4))
    whole = draw(policy, n=64)
    torch.cuda.empty_cache()
    used = torch.cuda.memory_reserved() + (24 << 20)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(used / total)
    try:
        split = draw(policy, n=64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    same = [
        a.token_ids == b.token_ids
        for g, h in zip(whole, split, strict=True)
        for a, b in zip(g, h, strict=True)
    ]
    assert sum(same) > 0.9 * len(same)  # a matmul of other height may round otherwise


UNSLOTH = """
import sys, torch
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe.sections import PolicyKeys
from icpo_lite.policy.logprobs import hidden_states
policy = load_policy(PolicyKeys(model_name_or_path=sys.argv[1], backend="unsloth", device="cuda",
                                lora_r=4, gradient_checkpointing=True))
assert policy.backend.name == "unsloth", policy.backend
ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]], device="cuda")
loss = hidden_states(policy, ids, torch.ones_like(ids)).float()
torch.save(loss.detach().cpu(), sys.argv[2])
loss.sum().backward()
assert all(p.grad is not None for p in policy.trainable())
"""


@pytest.mark.skipif(
    not ON_GPU or not importlib.util.find_spec("unsloth"), reason="needs unsloth and a GPU"
)
def test_unsloths_hidden_states_are_transformers_own(folder, tmp_path):
    """In a process of its own, where it is imported first."""
    out = tmp_path / "hidden.pt"
    done = subprocess.run(
        [sys.executable, "-c", UNSLOTH, str(folder), str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    policy = load_policy(model_keys(str(folder), backend="transformers", device="cuda", lora_r=4))
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]], device="cuda")
    with torch.no_grad():
        wanted = hidden_states(policy, ids, torch.ones_like(ids)).float().cpu()
    found = torch.load(out)
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
