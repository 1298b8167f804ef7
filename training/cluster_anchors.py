"""Anchors for a data set: k-means of its box sizes at network size, with 1 - IoU as the distance.

Redmon and Farhadi ("YOLO9000", section 2): by the Euclidean distance, large boxes would rule. The network says how many
it takes, sorted by area; one with prior boxes takes none. Boxes are taken as annotated, without augmentation: a seed
repeats the result. In a mixture a box counts as often as its image is drawn: a data set has the say that it has in
training, however many boxes it holds.

    python -m training.cluster_anchors --dataset camvid --root DIR --split train --size 384x768

For a mixture, repeat --dataset and --root, and --share and --options if there are any.
Shape letters: N boxes, k anchors.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from perception.boxes import pairwise_size_iou, xyxy_to_cxcywh
from perception.errors import ConfigError, MissingDependencyError, PerceptionError
from perception.labels import DEFAULT_LABELS, load_label_space
from perception.networks import resolve_config, resolve_input_spec
from perception.networks.configuration import takes_anchors
from training.data import build_dataset, parse_options
from training.data.dataset import SceneDataset
from training.data.sample import Sample

MAX_ROUNDS = 300


@dataclass(frozen=True, kw_only=True)
class AnchorClusters:
    """The outcome of ``cluster_anchors``."""

    anchors_wh: tuple[tuple[float, float], ...]
    """Width and height in input pixels, to 0.1, by growing area: as a network's configuration takes them."""
    mean_best_iou: float
    """Weighted mean over the boxes of the IoU with their best anchor."""


def cluster_anchors(
    sizes_wh: Tensor, weights: Tensor | None = None, *, count: int = 9, seed: int = 0, restarts: int = 10
) -> AnchorClusters:
    """Find the anchors that a set of boxes is nearest to.

    Args:
        sizes_wh: (N, 2) widths and heights in input pixels.
        weights: (N,) how much each counts, positive; None, or all the same: each as much as any other.
        count: k, how many anchors.
        seed: The same seed and sizes give the same anchors.
        restarts: Runs from other random starts; the one with the best mean IoU is kept.

    Raises:
        ConfigError: If there are fewer different sizes than anchors, or no anchor is wanted.
    """
    if count < 1:
        raise ConfigError(f'The number of anchors must be at least 1; got {count}.')
    sizes = sizes_wh.double()
    each = torch.ones(len(sizes), dtype=sizes.dtype)
    if weights is not None and len(weights.unique()) > 1:
        each = weights.double() / weights.double().mean()
    different = len(sizes.unique(dim=0))
    if different < count:
        raise ConfigError(
            f'{count} anchors need as many different box sizes, but there are {different}; give more data.'
        )
    generator = torch.Generator().manual_seed(seed)
    runs = [_converge(sizes, each, _spread_start(sizes, each, count, generator)) for _ in range(restarts)]
    best = max(runs, key=lambda anchors: _mean_best_iou(sizes, each, anchors))
    # Sorted after rounding, which can swap two of nearly equal area.
    rounded = [(max(round(width, 1), 0.1), max(round(height, 1), 0.1)) for width, height in best.tolist()]
    anchors = sorted(rounded, key=lambda wh: (wh[0] * wh[1], wh))
    mean_iou = _mean_best_iou(sizes, each, torch.tensor(anchors, dtype=sizes.dtype))
    return AnchorClusters(anchors_wh=tuple(anchors), mean_best_iou=mean_iou)


def _spread_start(sizes: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: each next centre is a box drawn with the square of its distance from the nearest centre so far."""
    first = torch.randint(len(sizes), (1,), generator=generator)
    chosen = sizes[first]  # (1, 2)
    while len(chosen) < count:
        distance = 1 - _best_iou(sizes, chosen)
        drawn = torch.multinomial(weights * distance.clamp(min=0).square(), 1, generator=generator)
        chosen = torch.cat((chosen, sizes[drawn]))
    return chosen


def _converge(sizes: Tensor, weights: Tensor, anchors: Tensor) -> Tensor:
    """Lloyd's rounds until no box changes its anchor; an anchor that lost all its boxes stays where it was."""
    owner = torch.full((len(sizes),), -1)
    for _ in range(MAX_ROUNDS):
        nearest = pairwise_size_iou(sizes, anchors).argmax(dim=1)  # (N,)
        if torch.equal(nearest, owner):
            break
        owner = nearest
        members = torch.bincount(owner, weights, minlength=len(anchors))[:, None]  # (k, 1)
        sums = torch.zeros_like(anchors).index_add_(0, owner, sizes * weights[:, None])
        anchors = torch.where(members > 0, sums / members, anchors)
    return anchors


def _best_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    return pairwise_size_iou(sizes, anchors).amax(dim=1)


def _mean_best_iou(sizes: Tensor, weights: Tensor, anchors: Tensor) -> float:
    return (_best_iou(sizes, anchors) * weights).mean().item()  # their mean is 1


def box_sizes(samples: Iterable[Sample], image_hw: tuple[int, int]) -> Tensor:
    """Sizes of all boxes, with their images stretched to the network input -> (N, 2) in its pixels."""
    height, width = image_hw
    sizes = [torch.zeros(0, 2)]
    for sample in samples:
        if sample.boxes is not None:
            scale = torch.tensor([width / sample.image.shape[2], height / sample.image.shape[1]])
            sizes.append(xyxy_to_cxcywh(sample.boxes)[:, 2:] * scale)
    return torch.cat(sizes)


def mix_sizes(sizes: Sequence[Tensor], draws: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The boxes of a mixture, and how much each counts, as ``cluster_anchors`` takes them.

    Args:
        sizes: For each data set (N_i, 2) sizes of its boxes.
        draws: For each data set, how often an image of it is drawn; boxes that never are are left out.

    Returns:
        (N, 2) and (N,).
    """
    drawn = [(of_one, often) for of_one, often in zip(sizes, draws, strict=True) if often]
    weights = [torch.full((len(of_one),), often, dtype=torch.float64) for of_one, often in drawn]
    return torch.cat([torch.zeros(0, 2), *(of_one for of_one, _ in drawn)]), torch.cat([torch.zeros(0), *weights])


def _counted(dataset: Iterable[Sample], progress: tqdm[Any]) -> Iterator[Sample]:
    for sample in dataset:
        yield sample
        progress.update()


def draw_clusters(sizes_wh: Tensor, clusters: AnchorClusters, path: Path) -> None:
    """Write a picture of all box sizes with the anchors among them, on logarithmic axes.

    Raises:
        ConfigError: If the file cannot be written, or its name says no kind of picture.
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError('The picture needs matplotlib: pip install matplotlib.') from error
    figure = Figure(figsize=(6, 5), layout='constrained')
    axes = figure.add_subplot(
        xscale='log',
        yscale='log',
        xlabel='width in pixels',
        ylabel='height in pixels',
        title=f'{len(sizes_wh)} boxes, mean best IoU {clusters.mean_best_iou:.3f}',
    )
    axes.scatter(sizes_wh[:, 0], sizes_wh[:, 1], s=3, alpha=0.3, linewidths=0)
    widths, heights = zip(*clusters.anchors_wh, strict=True)
    axes.scatter(widths, heights, s=60, marker='x', color='tab:red')
    for number, size in enumerate(clusters.anchors_wh):
        axes.annotate(str(number), size, xytext=(5, 5), textcoords='offset points', color='tab:red')
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f'Cannot write the picture {path}: {error}. Name another file, such as x.png.') from error


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    image_hw = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(image_hw) < 1:
        raise ConfigError(f'Size {text!r} is not HEIGHTxWIDTH in pixels; write for example 384x768.')
    return image_hw


def _open_datasets(options: argparse.Namespace) -> list[SceneDataset]:
    names, roots, texts = options.dataset, options.root, options.options
    if len(names) != len(roots):
        raise ConfigError(f'{len(names)} data sets but {len(roots)} folders; give one --root each.')
    if texts and len(texts) != len(names):
        raise ConfigError(
            f"{len(names)} data sets but {len(texts)} --options; give one each ('{{}}' for none), or none."
        )
    labels = load_label_space(options.labels)
    chosen = [parse_options(text) for text in texts or ['{}'] * len(names)]
    return [
        build_dataset(name, root, options.split, labels=labels, **own)
        for name, root, own in zip(names, roots, chosen, strict=True)
    ]


def _draws(options: argparse.Namespace, datasets: Sequence[SceneDataset]) -> list[float]:
    """How often an image of each data set is drawn: its share divided by its images; without shares all alike."""
    shares = options.share
    if not shares:
        return [1.0] * len(datasets)
    if len(shares) != len(datasets):
        raise ConfigError(f'{len(datasets)} data sets but {len(shares)} --share; give one each, or none.')
    if not all(0 <= share < math.inf for share in shares) or not any(shares):
        raise ConfigError(f'--share must be 0 or more, and one of them above 0; got {shares}.')
    return [share / max(len(dataset), 1) for share, dataset in zip(shares, datasets, strict=True)]


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m training.cluster_anchors', description='Cluster the box sizes of a data set into anchors.'
    )
    parser.add_argument(
        '--labels', default=DEFAULT_LABELS.name, metavar='NAME|FILE', help='label space of the run; default %(default)s'
    )
    parser.add_argument('--dataset', action='append', required=True, metavar='NAME', help='a data set; may be repeated')
    parser.add_argument('--root', action='append', type=Path, required=True, metavar='DIR', help='folder of each')
    parser.add_argument(
        '--options', action='append', default=[], metavar='JSON', help='what the reader of each takes besides, or none'
    )
    parser.add_argument(
        '--share', action='append', type=float, default=[], metavar='S', help='of each in the draws, or none: all alike'
    )
    parser.add_argument('--split', default='train', help='default train')
    parser.add_argument(
        '--network', default='interdependent', metavar='NAME', help='that takes the anchors; default interdependent'
    )
    parser.add_argument('--size', metavar='HxW', help="network input in pixels; default the network's")
    parser.add_argument('--anchors', type=int, help="default as many as the network's")
    parser.add_argument('--seed', type=int, default=0, help='default 0')
    parser.add_argument('--picture', type=Path, help='write a scatter of the sizes with the anchors to this file')
    return parser.parse_args(arguments)


def _fill_in(options: argparse.Namespace) -> None:
    """Put what the network has in place of what is not given."""
    config = resolve_config(options.network)
    if not takes_anchors(config):
        raise ConfigError(f'--network {options.network} has prior boxes of its own and takes no anchors.')
    if options.anchors is None:
        options.anchors = len(config.anchors_wh)
    if options.size is None:
        options.size = '{}x{}'.format(*resolve_input_spec(options.network).image_hw)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints lines for a training configuration.

    Returns:
        The exit code: 0 done, 1 it could not be done, 130 Ctrl-C.
    """
    options = _parse_arguments(arguments)
    try:
        _fill_in(options)
        image_hw = _parse_size(options.size)
        # What can be told now is not told after an hour of reading.
        if options.anchors < 1:
            raise ConfigError(f'--anchors must be at least 1; got {options.anchors}.')
        if options.picture and (options.picture.is_dir() or not options.picture.parent.is_dir()):
            raise ConfigError(f'--picture {options.picture} must be a file in a folder that exists.')
        datasets = _open_datasets(options)
        draws = _draws(options, datasets)
        with tqdm(total=sum(map(len, datasets)), desc='images', disable=None) as progress:
            found = [box_sizes(_counted(dataset, progress), image_hw) for dataset in datasets]
        sizes, weights = mix_sizes(found, draws)
        clusters = cluster_anchors(sizes, weights, count=options.anchors, seed=options.seed)
        if options.picture:
            draw_clusters(sizes, clusters, options.picture)
    except PerceptionError as error:
        print(f'cluster_anchors: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('cluster_anchors: stopped', file=sys.stderr)
        return 130
    names = options.dataset
    if options.share:
        names = [f'{share:g} {name}' for share, name in zip(options.share, names, strict=True)]
    print(f'# {" + ".join(names)}, {options.split} at {options.size}: {len(sizes)} boxes, seed {options.seed}')
    print(f'# mean best IoU {clusters.mean_best_iou:.3f}')
    print('anchors_wh:')
    for width, height in clusters.anchors_wh:
        print(f'  - [{width}, {height}]')
    return 0


if __name__ == '__main__':
    sys.exit(main())
