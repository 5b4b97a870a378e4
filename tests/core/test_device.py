"""The device, its dtype, and GPUs that a build of torch has no code for."""

import pytest
import torch

from icpo_lite.core.device import choose_device, has_kernels
from icpo_lite.core.errors import DeviceError

CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((7, 5), CU128, True),  # T4
        ((6, 0), CU128, False),  # Kaggle's P100
        ((8, 9), CU128, True),  # 4090, by sm_86 or sm_80
        ((12, 0), CU126, False),  # RTX 50xx on an older wheel
        ((12, 0), [*CU126, "compute_90"], True),  # … that also holds intermediate code
        ((9, 0), ["sm_90a"], True),
        ((7, 0), [], True),  # a build that lists nothing is not judged
    ],
)
def test_builds_and_gpus(capability, built, runs):
    assert has_kernels(*capability, built) is runs


def test_cpu_is_float32_unless_asked():
    assert choose_device("cpu").dtype is torch.float32
    assert choose_device("cpu", "bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize("wanted", ["tpu", "mps", "cuda:99"])
def test_what_is_not_there_is_refused_in_one_line(wanted):
    with pytest.raises(DeviceError) as error:
        choose_device(wanted)
    assert "\n" not in str(error.value)
