"""Made-up embeddings on disk, and a small curation of rendered rooms that commands can be given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from torch import Tensor

from evals.backbones.exported import export
from harness import curate
from harness.curation.embeddings import Embeddings


@pytest.fixture
def embedded(tmp_path: Path) -> Callable[..., Embeddings]:
    """Rows as embeddings of a pool, in shards of 100."""

    def of(x: Tensor, name: str = "embeddings") -> Embeddings:
        found = Embeddings(tmp_path / name, (len(x), x.shape[1]), name, shard=100)
        for number in range(found.shards):
            found.write(number, x[number * 100 : (number + 1) * 100])
        return found

    return of


@pytest.fixture
def blobs() -> Callable[..., Tensor]:
    """Groups of points around directions of their own, one group after the other."""

    def of(*sizes: int, width: int = 32, spread: float = 0.06, seed: int = 0) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        centres = torch.nn.functional.normalize(torch.randn(len(sizes), width, generator=draw), dim=1)
        noise = [spread * torch.randn(size, width, generator=draw) for size in sizes]
        return torch.cat([centre + one for centre, one in zip(centres, noise, strict=True)])

    return of


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small exported backbone with random weights."""
    name, args = "vit_small_patch16_dinov3_qkvb", {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 8}
    args |= {"img_size": 32, "dynamic_img_size": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, **args)
    export(model, folder := tmp_path_factory.mktemp("backbone") / "small", timm_name=name, timm_args=args)
    return folder


@pytest.fixture(scope="session")
def curation_in(backbone: Path) -> Callable[..., Path]:
    """Writes a curation of 60 rooms by a small backbone, whose folders lie in the given one."""

    def write(tmp_path: Path, **changes: Any) -> Path:
        plain: dict[str, Any] = {
            "backbone": str(backbone),
            "size": 32,
            "data": {"sources": {"rooms": {"kind": "scenes", "size": 32, "count": 60}}},
            "levels": [{"clusters": 12, "resamplings": 1}, {"clusters": 4, "resamplings": 2, "closest": 2}],
            "duplicates": 0.9995,
            "clustering": {"target": 20},
            "retrieval": {
                "seeds": {"asked": {"kind": "scenes", "split": "val", "size": 32, "count": 3}},
                "neighbours": 4,
            },
            "folder": str(tmp_path / "runs"),
            "cache": str(tmp_path / "cache"),
            "device": "cpu",
        }
        path = tmp_path / "rooms.yaml"
        path.write_text(yaml.safe_dump({**plain, **changes}))
        return path

    return write


@pytest.fixture
def write_curation(tmp_path: Path, curation_in: Callable[..., Path]) -> Callable[..., Path]:
    """The same in the test's own folder."""
    return partial(curation_in, tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, curation_in: Callable[..., Path]) -> Path:
    """What the command leaves of it: a folder with the manifest, the PDF and all stages, to be looked at alone."""
    place = tmp_path_factory.mktemp("whole")
    assert curate.main([str(curation_in(place))]) == 0
    return place / "runs" / "rooms"
