"""A short training, for tests of the files that it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.train import train


@pytest.fixture
def trained(make_job: Any, pool: Any) -> Path:
    """The folder of an arm after two real steps, with its training state and its exported backbone."""
    job = make_job({"steps": 2})
    train(job, pool, lambda *_: {}, device=torch.device("cpu"))
    return job.view
