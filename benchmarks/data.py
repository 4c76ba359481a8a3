"""Images per second and core of the multi-crop path, against torchvision's transforms on single images.

    python benchmarks/data.py [--seconds 3]

Both make the same crops with the same chances from the same JPEG photographs (made up here), in one process and one
thread, in turns; CPU time is counted, so that the ratio holds on a busy machine.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as plain

from common.speed import machine_line
from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import Surfaces
from harness.crop_settings import Crops
from harness.data.batches import Batches, CropView, views
from harness.data.pool import MEMORY, Pool
from harness.data.sizes import sides
from harness.data_settings import Data
from harness.losses.ibot import Ibot

PHOTOS = 64
CASES = {
    "2 x 64 + 2 x 32 from 128 x 128": (Crops(global_size=64, local_size=32, local_count=2), (128, 128), 8),
    "2 x 64 + 2 x 64 from 128 x 128": (Crops(global_size=64, local_size=64, local_count=2), (128, 128), 8),
    "2 x 224 + 8 x 96 from 375 x 500": (Crops(), (375, 500), 16),
}


class Photographs:
    """A labelled set of JPEG files held in memory: smooth colours with some grain, `height` × `width` pixels."""

    name, split, classes, segments, has_depth, has_surfaces = "photographs", "train", (), (), False, False

    def __init__(self, height: int, width: int) -> None:
        self.files = [_photograph(seed, height, width) for seed in range(PHOTOS)]

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        return str(index)

    def image(self, index: int) -> np.ndarray:
        return np.asarray(self.open(index))

    def open(self, index: int) -> Image.Image:
        return Image.open(io.BytesIO(self.files[index])).convert("RGB")

    # a LabelledSet has these; making crops asks for none of them
    def label(self, index: int) -> int:
        raise NotImplementedError

    def mask(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def depth(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def surfaces(self, index: int) -> Surfaces:
        raise NotImplementedError

    def found(self) -> Inventory:
        return Inventory(len(self), len(self))

    def fingerprint(self) -> str:
        return "photographs"

    def stamp(self) -> str:
        return self.fingerprint()


def _photograph(seed: int, height: int, width: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    pixels = (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def transform(view: CropView, crops: Crops) -> Callable[[Image.Image], torch.Tensor]:
    """One view of the recipe as torchvision's transforms of a PIL image."""
    jitter = plain.ColorJitter(crops.brightness, crops.contrast, crops.saturation, crops.hue)
    return plain.Compose(
        [
            plain.RandomResizedCrop(view.size, view.scale, interpolation=plain.InterpolationMode.BICUBIC),
            plain.RandomHorizontalFlip(crops.flip),
            plain.RandomApply([jitter], crops.jitter),
            plain.RandomGrayscale(crops.grayscale),
            plain.RandomApply([plain.GaussianBlur(9, (0.1, 2.0))], view.blur),
            plain.RandomSolarize(128, view.solarize),
            plain.ToTensor(),
            plain.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def plain_steps(photographs: Photographs, crops: Crops, batch: int, *, decode: bool) -> Callable[[int], object]:
    """The reference: every image by itself, every view by itself, stacked at the end."""
    both, local = views(crops, sides(crops)[0])
    made = [transform(view, crops) for view in (*both, *local)]
    kept = None if decode else [photographs.open(index) for index in range(PHOTOS)]

    def step(number: int) -> object:
        chosen = [(number * batch + i) % PHOTOS for i in range(batch)]
        images = [kept[index] if kept else photographs.open(index) for index in chosen]
        return [torch.stack([make(image) for image in images]) for make in made]

    return step


def our_steps(
    photographs: Photographs, crops: Crops, batch: int, *, patch: int, decode: bool
) -> Callable[[int], object]:
    """The harness's path, masks and batch composition included."""
    pool = Pool({"photographs": photographs}, memory=0 if decode else MEMORY)
    batches = Batches(pool, data=Data(batch_size=batch), crops=crops, ibot=Ibot(), patch=patch, seed=0)
    return batches.__getitem__


def rates(paths: list[Callable[[int], object]], batch: int, seconds: float) -> list[float]:
    """Images per second of CPU time of each path, taken in turns until each has had `seconds`."""
    spent, steps = [0.0] * len(paths), 0
    for path in paths:
        path(0)
    while min(spent) < seconds:
        steps += 1
        for which, path in enumerate(paths):
            start = time.process_time()
            path(steps)
            spent[which] += time.process_time() - start
    return [steps * batch / one for one in spent]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU time for each number (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch (default: %(default)s)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(machine_line(torch.device("cpu")))
    print(f"{'crops':34}{'decoding':>10}{'plain':>10}{'ours':>10}{'ratio':>8}   (images/s and core)")
    for title, (crops, (height, width), patch) in CASES.items():
        photographs = Photographs(height, width)
        for decode in (False, True):
            paths = [
                plain_steps(photographs, crops, given.batch, decode=decode),
                our_steps(photographs, crops, given.batch, patch=patch, decode=decode),
            ]
            slow, fast = rates(paths, given.batch, given.seconds)
            print(f"{title:34}{'yes' if decode else 'no':>10}{slow:10.1f}{fast:10.1f}{fast / slow:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
