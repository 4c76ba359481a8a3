"""The device asked for, the memory of a job, and what a report says of the machine."""

import pytest
import torch

from common.errors import BadInput
from common.machine import environment, peak_memory_gib, pick_device, reset_peak_memory


def test_the_peak_of_a_job_leaves_out_what_an_earlier_one_held():
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    device = torch.device("cuda")
    held = torch.empty(2**28, device=device)
    del held
    assert peak_memory_gib(device) >= 1
    reset_peak_memory(device)
    assert peak_memory_gib(device) < 1


def test_the_cpu_is_had_by_name_and_cuda_where_there_is_some():
    assert pick_device("cpu").type == "cpu"
    if torch.cuda.is_available():
        assert pick_device("auto").type == pick_device("cuda").type == "cuda"
        return
    assert pick_device("auto").type == "cpu"
    with pytest.raises(BadInput, match="got device cuda, but torch sees no GPU"):
        pick_device("cuda")


def test_the_environment_names_versions_and_machine():
    found = environment(torch.device("cpu"), precision="float32")
    assert found["torch"] == torch.__version__
    assert found["cores"] >= 1
    assert found["device"] == "cpu"
    assert all(value not in (None, "") for value in found.values())
