"""Colour jitter, grayscale, blur and solarisation of a whole batch, with parameters of its own for each image.

Plain tensor operations on [N, 3, H, W] in [0, 1], on any device; each equals torchvision's functional operation on
single images. What is drawn (`Distortions`) is apart from what is done (`distort`), so that both can be tested alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from common import draws
from harness.crop_settings import Crops

LUMA = (0.2989, 0.587, 0.114)
KERNEL = 9  # pixels, of the blur
SIGMA = (0.1, 2.0)  # pixels, of the blur
THRESHOLD = 0.5  # of the solarisation: between the 8-bit values 127 and 128
OPERATIONS = ("brightness", "contrast", "saturation", "hue")


class Distortions(NamedTuple):
    """What happens to each of N images; jitter happens where `jitter`, in the `order` of indices of OPERATIONS."""

    jitter: Bool[Tensor, " N"]
    order: Int[Tensor, "N 4"]
    factors: Float[Tensor, "N 4"]  # brightness, contrast, saturation: 1 = unchanged; hue: turns, 0 = unchanged
    grayscale: Bool[Tensor, " N"]
    blur: Bool[Tensor, " N"]
    sigma: Float[Tensor, " N"]  # pixels
    solarize: Bool[Tensor, " N"]

    def of(self, number: int) -> Distortions:
        """What happens to one of the images."""
        return Distortions(*(values[number : number + 1] for values in self))


def draw(
    seed: int,
    step: int,
    view: str,
    *,
    count: int,
    crops: Crops,
    blur: float = 0.0,
    solarize: float = 0.0,
    first: int = 0,
) -> Distortions:
    """The plan of one view ("global/0", "local/3") of `count` of a step's images, from the `first` on.

    blur, solarize: probabilities.
    """
    u = draws.uniforms(seed, step, f"distort/{view}", count, 13, first=first)
    spread = np.array([crops.brightness, crops.contrast, crops.saturation])
    low, high = np.append(np.maximum(1 - spread, 0), -crops.hue), np.append(1 + spread, crops.hue)
    return Distortions(
        jitter=torch.from_numpy(u[:, 0] < crops.jitter),
        order=torch.from_numpy(u[:, 1:5].argsort(1)),
        factors=torch.from_numpy((low + u[:, 5:9] * (high - low)).astype(np.float32)),
        grayscale=torch.from_numpy(u[:, 9] < crops.grayscale),
        blur=torch.from_numpy(u[:, 10] < blur),
        sigma=torch.from_numpy((SIGMA[0] + u[:, 11] * (SIGMA[1] - SIGMA[0])).astype(np.float32)),
        solarize=torch.from_numpy(u[:, 12] < solarize),
    )


def nothing(count: int) -> Distortions:
    """The plan that leaves so many images as they are."""
    no, factors = torch.zeros(count, dtype=torch.bool), torch.tensor([1.0, 1.0, 1.0, 0.0])
    return Distortions(no, torch.arange(4).expand(count, 4), factors.expand(count, 4), no, no, torch.ones(count), no)


def distort(
    images: Float[Tensor, "N 3 H W"], plan: Distortions, *, magnification: float = 1.0
) -> Float[Tensor, "N 3 H W"]:
    """Carries out the plan IN PLACE: jitter, grayscale, blur, solarise; returns `images`.

    magnification: size of these images over the size that the plan was made for; the blur grows with it.
    """
    for place in range(len(OPERATIONS)):
        for kind, operation in enumerate((brightness, contrast, saturation, hue)):
            where = plan.jitter & (plan.order[:, place] == kind)
            _change(images, where, operation, plan.factors[:, kind])
    _change(images, plan.grayscale, lambda x: grayscale(x).expand_as(x))
    kernel = odd(KERNEL * magnification, limit=min(images.shape[-2:]))
    _change(images, plan.blur, lambda x, sigma: blur(x, sigma, kernel=kernel), plan.sigma * magnification)
    _change(images, plan.solarize, solarize)
    return images


def _change(images: Tensor, where: Tensor, operation, *parameters: Tensor) -> None:
    """images[where] = operation(images[where], parameters[where]), nothing at all where there is none."""
    chosen = where.nonzero()[:, 0]
    if len(chosen):
        own = (p[chosen].to(images.device, images.dtype).view(-1, 1, 1, 1) for p in parameters)
        chosen = chosen.to(images.device)
        images.index_copy_(0, chosen, operation(images.index_select(0, chosen), *own).contiguous())


def odd(size: float, *, limit: int) -> int:
    """The odd number nearest to `size`, at least 1 and at most `limit`."""
    return max(1, min(2 * round((size - 1) / 2) + 1, limit - 1 + limit % 2))


def brightness(x: Float[Tensor, "N 3 H W"], factor: Float[Tensor, "N 1 1 1"]) -> Float[Tensor, "N 3 H W"]:
    """Scaled by `factor`."""
    return (x * factor).clamp_(0, 1)


def contrast(x: Float[Tensor, "N 3 H W"], factor: Float[Tensor, "N 1 1 1"]) -> Float[Tensor, "N 3 H W"]:
    """Away from (factor > 1) or towards the image's mean grey."""
    # by rows first: one sum over a whole large image would be split over threads, and differ with their number
    return _blend(x, grayscale(x).mean(3, keepdim=True).mean(2, keepdim=True), factor)


def saturation(x: Float[Tensor, "N 3 H W"], factor: Float[Tensor, "N 1 1 1"]) -> Float[Tensor, "N 3 H W"]:
    """Away from (factor > 1) or towards each pixel's grey."""
    return _blend(x, grayscale(x), factor)


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (x * factor).add_(other * (1 - factor)).clamp_(0, 1)


def grayscale(x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 1 H W"]:
    """Luma of ITU-R BT.601."""
    red, green, blue = x.split(1, 1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def hue(x: Float[Tensor, "N 3 H W"], turns: Float[Tensor, "N 1 1 1"]) -> Float[Tensor, "N 3 H W"]:
    """Colours turned around the grey axis of HSV, lightest and darkest channel values kept."""
    red, green, blue = x.split(1, 1)
    lightest = torch.maximum(red, green).maximum(blue)
    darkest = torch.minimum(red, green).minimum(blue)
    chroma = lightest - darkest
    safe = chroma.clamp(min=1e-12)  # grey pixels: numerators are 0 too, and the hue does not matter
    angle = torch.where(
        lightest == red,
        (green - blue).div_(safe),
        torch.where(lightest == green, (blue - red).div_(safe).add_(2), (red - green).div_(safe).add_(4)),
    )
    angle.add_(turns * 6)
    angle.sub_((angle / 6).floor_().mul_(6))  # sixths of a turn, in [0, 6)
    out = torch.empty_like(x)
    for channel, (centre, start, sign) in enumerate(((3, -1, 1), (2, 2, -1), (4, 2, -1))):
        wave = (angle - centre).abs_().mul_(sign).add_(start).clamp_(0, 1)
        torch.addcmul(darkest, chroma, wave, out=out[:, channel : channel + 1])
    return out


def blur(
    x: Float[Tensor, "N 3 H W"], sigma: Float[Tensor, "N 1 1 1"], *, kernel: int = KERNEL
) -> Float[Tensor, "N 3 H W"]:
    """Gaussian of `sigma` pixels cut off after `kernel` (odd) taps per axis, edges reflected."""
    reach = kernel // 2
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    taps = (-0.5 * (offsets / sigma.view(-1, 1)).square()).softmax(1)
    for axis, margins in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded = pad(x, margins, mode="reflect")
        x = torch.zeros_like(x)
        for tap in range(kernel):
            x.addcmul_(padded.narrow(axis, tap, x.shape[axis]), taps[:, tap].view(-1, 1, 1, 1))
    return x


def solarize(x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """Inverted from THRESHOLD upwards."""
    return torch.where(x >= THRESHOLD, 1 - x, x)
