from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evals.judging.pixel_classes import classes_at
from evals.tasks.segmentation.sliding import slide, starts


@pytest.mark.parametrize(
    ("side", "expected"),
    [(512, [0]), (513, [0, 1]), (683, [0, 171]), (853, [0, 341]), (854, [0, 341, 342]), (1024, [0, 341, 512])],
)
def test_windows_begin_every_stride_and_the_last_ends_with_the_image(side: int, expected: list[int]):
    assert starts(side, 512, 341) == expected


@pytest.mark.parametrize("side", range(4, 40))
@pytest.mark.parametrize("stride", [1, 3, 6, 7])
def test_windows_cover_a_side_without_leaving_it(side: int, stride: int):
    found = starts(side, 7, stride)
    covered = {pixel for start in found for pixel in range(start, min(start + 7, side))}
    assert covered == set(range(side))
    assert len(found) == len(set(found)) == -(-max(side - 7, 0) // stride) + 1


def by_pixel(predict, image: Tensor, window: int, stride: int) -> Tensor:  # pyright: ignore
    """The definition: for each pixel the mean over the windows that see it."""
    height, width = image.shape[1:]
    boxes = [(t, l) for t in starts(height, window, stride) for l in starts(width, window, stride)]  # noqa: E741
    maps = {(t, left): predict(image[None, :, t : t + window, left : left + window])[0] for t, left in boxes}
    rows = []
    for y in range(height):
        for x in range(width):
            seen = [m[:, y - t, x - left] for (t, left), m in maps.items() if 0 <= y - t < window > x - left >= 0]
            rows.append(torch.stack(seen).mean(0))
    return torch.stack(rows, 1).view(-1, height, width)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_overlapping_maps_are_averaged_pixel_by_pixel(batch: int):
    image = torch.rand(3, 17, 12, generator=torch.Generator().manual_seed(0))

    def with_place_in_window(windows: Tensor) -> Tensor:
        place = torch.linspace(0, 1, windows.shape[2] * windows.shape[3]).view(1, 1, *windows.shape[2:])
        return torch.cat([windows[:, :2] * place, windows.mean((1, 2, 3), keepdim=True) + place], 1)

    found = slide(with_place_in_window, image, window=7, stride=4, batch=batch)
    torch.testing.assert_close(found, by_pixel(with_place_in_window, image, 7, 4))


def test_an_image_smaller_than_the_window_is_seen_whole():
    image = torch.rand(3, 5, 4)
    shapes: list[tuple[int, ...]] = []

    def note(windows: Tensor) -> Tensor:
        shapes.append(tuple(windows.shape))
        return windows

    torch.testing.assert_close(slide(note, image, window=7, stride=4), image)
    assert shapes == [(1, 3, 5, 4)]


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_classes_at_another_size_are_those_of_the_interpolated_softmax(chunk: int):
    logits = torch.randn(9, 6, 8, generator=torch.Generator().manual_seed(1))
    whole = F.interpolate(logits[None], size=(13, 11), mode="bilinear", align_corners=False)[0].softmax(0).argmax(0)
    assert torch.equal(classes_at(logits, (13, 11), chunk=chunk), whole)


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_the_first_of_equal_classes_wins_as_in_the_whole_map(chunk: int):
    logits = torch.randint(3, (40, 5, 7), generator=torch.Generator().manual_seed(1)).float()
    whole = F.interpolate(logits[None], size=(10, 14), mode="bilinear", align_corners=False)[0]
    assert ((whole == whole.amax(0)).sum(0) > 1).sum() > 70
    assert torch.equal(classes_at(logits, (10, 14), chunk=chunk), whole.argmax(0))
