"""The way from photographs to crops against torchvision's transforms on single images: images a second and core.

    python benchmarks/data.py [--crops 64 224] [--decode no yes] [--files FOLDER] [--seconds 3]

Both make the same crops with the same chances of the same JPEG photographs, made up here or the first of a folder, in
one process and one thread, in turns; CPU time is counted, so that the ratio holds on a busy machine. "Decoding" reads
every image anew; ours reads files as training does, with all that is refused there.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as plain

from benchmarks.measure import note, wait
from benchmarks.told import Parser
from common.machine import pick_device
from common.speed import machine_line
from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import LabelledSet, Surfaces
from evals.datasets.layouts.image_folder import ImageFolder
from harness.crop_settings import Crops
from harness.data.batches import Batches, CropView, views
from harness.data.engines import Engine
from harness.data.pool import MEMORY, Pool
from harness.data.sizes import sides
from harness.data_settings import Augment, Data
from harness.losses.ibot import Ibot

PHOTOS = 64
BATCH = 32
DECODE = {"no": "decoded", "yes": "decoding"}


class Crop(NamedTuple):
    """What is made of an image, of which (height, width), in patches of how many pixels."""

    title: str
    crops: Crops
    extent: tuple[int, int]
    patch: int


CASES = {
    "64": Crop("2 x 64 + 2 x 32 of 128 x 128", Crops(global_size=64, local_size=32, local_count=2), (128, 128), 8),
    "224": Crop("2 x 224 + 8 x 96 of 375 x 500", Crops(), (375, 500), 16),
}


class Pictures(LabelledSet, Protocol):
    """A labelled set whose images Pillow can open as well."""

    def open(self, index: int) -> Image.Image: ...


class Files(ImageFolder):
    """The first photographs of a folder."""

    def open(self, index: int) -> Image.Image:
        return Image.open(self.root / self.key(index)).convert("RGB")


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


def plain_steps(pictures: Pictures, crops: Crops, *, decode: bool) -> Callable[[int], object]:
    """The reference: every image by itself, every view by itself, stacked at the end."""
    both, local = views(crops, sides(crops)[0])
    made = [transform(view, crops) for view in (*both, *local)]
    kept = None if decode else [pictures.open(index) for index in range(len(pictures))]

    def step(number: int) -> object:
        chosen = [(number * BATCH + i) % len(pictures) for i in range(BATCH)]
        images = [kept[index] if kept else pictures.open(index) for index in chosen]
        return [torch.stack([make(image) for image in images]) for make in made]

    return step


def our_batches(pictures: Pictures, case: Crop, *, decode: bool, augment: Augment) -> Batches:
    """The harness's path, masks and the composition of batches included."""
    pool = Pool({"photographs": pictures}, memory=0 if decode else MEMORY)
    if not decode:
        pool.preload()
    data = Data(batch_size=BATCH, augment=augment)
    return Batches(pool, data=data, crops=case.crops, ibot=Ibot(), patch=case.patch, seed=0)


def our_steps(batches: Batches, device: torch.device) -> Callable[[int], object]:
    """Where crops are made on a device, their batch is waited for there."""

    def on_device(number: int) -> object:
        made = batches.made(batches.loaded(number), device)
        wait(device)
        return made

    return batches.__getitem__ if batches.data.augment == "cpu" else on_device


def rates(paths: list[Callable[[int], object]], seconds: float) -> list[float]:
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
    return [steps * BATCH / one for one in spent]


def where_time_goes(batches: Batches, device: torch.device, *, steps: int = 5) -> dict[str, float]:
    """Shares of the CPU time of our path; "rest" are draws, masks, mirror images and copies."""
    spent: defaultdict[str, float] = defaultdict(float)

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            found = work(*args, **kwargs)
            spent[name] += time.process_time() - start
            return found

        return run

    batches.engine = Engine(*(timed(name, work) for name, work in batches.engine._asdict().items()))
    batches._images = timed("decoding", batches._images)
    path = timed("rest", our_steps(batches, device))
    for number in range(steps):
        path(number)
    whole = spent["rest"]
    spent["rest"] = 2 * whole - sum(spent.values())
    return {name: spent[name] / whole for name in sorted(spent, key=spent.__getitem__, reverse=True)}


def measure(pictures: Pictures, case: Crop, device: torch.device, given: argparse.Namespace, *, decode: bool) -> dict:
    """All that is told of a case."""
    batches = our_batches(pictures, case, decode=decode, augment=given.augment)
    paths = [plain_steps(pictures, case.crops, decode=decode), our_steps(batches, device)]
    slow, fast = rates(paths, given.seconds)
    found = {"images_per_second": fast, "plain_images_per_second": slow, "ratio": fast / slow}
    return found | {"time": where_time_goes(batches, device)}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", nargs="+", choices=CASES, default=[*CASES], help="default: all")
    parser.add_argument("--decode", nargs="+", choices=DECODE, default=[*DECODE], help="default: both")
    parser.add_argument("--files", type=Path, help="a folder of JPEG files in place of made-up photographs")
    parser.add_argument("--augment", choices=["cpu", "device"], default="cpu", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="for --augment device (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU time for each number (default: %(default)s)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    device = pick_device(given.device)
    print(machine_line(device))
    print(f"{'':44}{'images/s':>10}{'plain':>8}{'ratio':>7}  where the time goes")
    for case in (CASES[name] for name in given.crops):
        pictures = Files(given.files, count=PHOTOS) if given.files else Photographs(*case.extent)
        for decode in given.decode:
            found = measure(pictures, case, device, given, decode=decode == "yes")
            source = f"{case.title.partition(' of ')[0]} of {given.files.name}" if given.files else case.title
            title = f"{source}, {DECODE[decode]}" + (f", {device}" if given.augment == "device" else "")
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["time"].items())
            line = f"{found['images_per_second']:10.1f}{found['plain_images_per_second']:8.1f}{found['ratio']:7.2f}"
            print(f"{title:44}{line}  {shares}", flush=True)
            if before := note("data", title, found, device=device):
                print(f"{'':44}{before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
