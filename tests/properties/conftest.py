"""A folder for generated cases."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for all cases of a file."""
    return tmp_path_factory.mktemp("generated")
