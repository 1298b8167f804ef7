"""Measures how fast training samples come, on one core: from picture files, from the cache, and with augmentation.

    python -m training.data.measure_loading [--root CITYSCAPES --split val] [--samples 32]

Without ``--root`` it draws street scenes in the Cityscapes layout into a temporary folder. The file path does what the
cache saves, reading both PNGs and resizing; the cached path copies every pixel, because mapping alone reads nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import torch
from tabulate import tabulate

from perception.errors import PerceptionError
from training.data import build_dataset
from training.data.cache import prepare_cache, resize_sample
from training.data.dataset import SceneDataset
from training.data.mixture import seeded_generator
from training.data.sample import Sample
from training.data.ssd_augmentation import IoUCropConfig, PhotometricConfig, ZoomOutConfig
from training.data.street.cityscapes_layout import write_cityscapes
from training.data.synthetic_street import plan_sequences
from training.data.transforms import TrainTransform, TrainTransformConfig

_FULL_HW, _SIZES_HW = (1024, 2048), ((384, 768), (360, 480), (300, 300))


def images_per_second(load: Callable[[int], object], count: int, *, rounds: int = 3) -> float:
    """Best rate of several rounds over the samples 0 to count - 1, after one that warms the page cache.

    Counts processor time, which other processes on the machine disturb little.
    """
    seconds = []
    for _ in range(rounds + 1):
        start = time.process_time()
        for index in range(count):
            load(index)
        seconds.append(time.process_time() - start)
    return count / min(seconds[1:])


def measure(
    dataset: SceneDataset, masks_only: SceneDataset, image_hw: tuple[int, int], cache_folder: Path
) -> dict[str, float]:
    """Images per second of each way to a sample at network size.

    Args:
        dataset: With masks and boxes.
        masks_only: The same without boxes, which take the files' path another picture and a search.
        image_hw: Network size.
        cache_folder: For the caches.
    """
    cached = prepare_cache(dataset, image_hw, cache_folder, workers=1)
    geometric = TrainTransform(TrainTransformConfig(), image_hw)
    full = TrainTransform(
        TrainTransformConfig(
            scale=(0.75, 2.0),
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
            focus_probability=0.5,
            focus_classes=(1, 2, 6, 9),
        ),
        image_hw,
    )
    ssd = TrainTransform(
        TrainTransformConfig(
            scale=(1, 1), zoom_out=ZoomOutConfig(), iou_crop=IoUCropConfig(), photometric=PhotometricConfig()
        ),
        image_hw,
    )
    count = len(dataset)
    return {
        'image and mask files': images_per_second(
            lambda index: resize_sample(masks_only[index], image_hw), count, rounds=1
        ),
        'files with boxes': images_per_second(lambda index: resize_sample(dataset[index], image_hw), count, rounds=1),
        'cache': images_per_second(lambda index: _copy(cached[index]), count),
        "cache, paper's augmentation": images_per_second(
            lambda index: geometric(cached[index], seeded_generator(0, index)), count
        ),
        'cache, all augmentation': images_per_second(
            lambda index: full(cached[index], seeded_generator(0, index)), count
        ),
        "cache, SSD's augmentation": images_per_second(
            lambda index: ssd(cached[index], seeded_generator(0, index)), count
        ),
    }


def _copy(sample: Sample) -> tuple[torch.Tensor, torch.Tensor | None]:
    return sample.image.clone(), None if sample.mask is None else sample.mask.clone()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog='python -m training.data.measure_loading', description=__doc__.split('\n')[0])
    parser.add_argument('--root', type=Path, help='data set in the Cityscapes layout; default: drawn')
    parser.add_argument('--split', default='val', help='default val')
    parser.add_argument('--samples', type=int, default=8, help='frames to draw without --root; default 8')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            root = options.root or Path(temporary) / 'streets'
            if options.root is None:
                streets = plan_sequences(options.samples, image_hw=_FULL_HW, seed=0, split=options.split)
                write_cityscapes(root, options.split, streets)
            dataset = build_dataset('cityscapes', root, options.split)
            masks_only = build_dataset('cityscapes', root, options.split, boxes=False)
            for image_hw in _SIZES_HW:
                rates = measure(dataset, masks_only, image_hw, Path(temporary) / 'cache')
                rows = [(way, rate, rate / rates['image and mask files']) for way, rate in rates.items()]
                print(f'\n{dataset.name}, {len(dataset)} samples, to {image_hw[0]}x{image_hw[1]}, one core')
                print(tabulate(rows, headers=('way', 'images/s', 'times files'), floatfmt='.1f'))
    except PerceptionError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
