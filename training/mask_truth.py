"""What the mask logits of a network learn from a batch: the classes, and background against any object.

An auxiliary mask may learn objects of some sizes only, as in TripleNet-SS (Cao et al.: "Triply supervised decoder
networks for joint detection and semantic segmentation"). Masks do not say where one object ends, boxes do: a pixel of
an object's areas is then learned where the box of such an object covers it, and left out elsewhere. The network says
which objects these are, its label space what they are made of.

Shape letters: L images with a mask, N objects, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from perception.errors import ConfigError
from perception.interfaces import UNLABELLED, LabelSpace, NetworkOutput, PerceptionNetwork
from perception.labels import object_areas
from training.data.sample import Sample


class MaskTruths(NamedTuple):
    """One mask for each output of a network, (L, H, W) uint8, 255 where nothing is learned."""

    main: Tensor
    auxiliary: tuple[Tensor, ...]
    agnostic: tuple[Tensor, ...]
    """0 background, 1 any object."""

    def labelled_pixels(self) -> list[int]:
        """What each of these masks labels, in their order."""
        masks = (self.main, *self.auxiliary, *self.agnostic)
        distinct = {id(mask): mask for mask in masks}
        counts = {key: int((mask != UNLABELLED).sum()) for key, mask in distinct.items()}
        return [counts[id(mask)] for mask in masks]


def mask_truths(
    network: PerceptionNetwork, output: NetworkOutput, samples: Sequence[Sample], masks: Tensor
) -> MaskTruths:
    """The truth of every mask that a network gave in training.

    Args:
        network: Says which objects an auxiliary mask learns.
        output: How many there are.
        samples: The L images with a mask.
        masks: Theirs, (L, H, W) uint8, on the CPU.

    Raises:
        ConfigError: If objects are to be told from the background and the label space does not say what they are
            made of.
    """
    auxiliary = _of_their_objects(network, samples, masks, len(output.auxiliary_mask_logits))
    count = len(output.agnostic_mask_logits)
    if not count:
        return MaskTruths(masks, auxiliary, ())
    of_class = np.where(_areas_of(network.labels).any(axis=0), 1, 0).astype(np.uint8)
    of_class[UNLABELLED] = UNLABELLED
    sources = (masks,) * count if all(mask is masks for mask in auxiliary) else auxiliary
    distinct = {id(mask): torch.from_numpy(of_class[mask.numpy()]) for mask in sources}
    return MaskTruths(masks, auxiliary, tuple(distinct[id(mask)] for mask in sources))


def _areas_of(labels: LabelSpace) -> np.ndarray:
    """(K, 256) bool, as ``object_areas``."""
    areas = object_areas(labels)
    if not areas.any():
        raise ConfigError(
            f'Label space {labels.name!r} does not say which areas its objects are made of, so no mask can be split '
            'into objects and background. Add areas to its detection classes, or switch class_agnostic and '
            'scale_specific of network_config off.'
        )
    return areas


def _of_their_objects(
    network: PerceptionNetwork, samples: Sequence[Sample], masks: Tensor, count: int
) -> tuple[Tensor, ...]:
    """The masks, for each of ``count`` outputs with the objects that it learns and without the others."""
    image_hw = (masks.shape[1], masks.shape[2])
    learned = [
        network.auxiliary_objects(torch.zeros(0, 4) if sample.boxes is None else sample.boxes, image_hw)
        for sample in samples
    ]
    if all(matches is None for matches in learned):
        return (masks,) * count
    areas = _areas_of(network.labels)
    found = np.repeat(masks.numpy()[None], count, axis=0)  # (outputs, L, H, W)
    for row, (sample, matches) in enumerate(zip(samples, learned, strict=True)):
        assert matches is not None
        for level in range(count):
            _leave_out_others(found[level, row], sample, matches[:, level], areas)
    return tuple(torch.from_numpy(found).unbind(0))


def _leave_out_others(mask: np.ndarray, sample: Sample, learned: Tensor, areas: np.ndarray) -> None:
    """Unlabel the pixels (H, W) of objects' areas that no box of a learned object covers; learned is (N,) bool."""
    covered = np.zeros(mask.shape, bool)
    if sample.boxes is not None and sample.labels is not None:
        boxes = sample.boxes[learned].numpy()
        corners = np.concatenate((np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])), axis=1).clip(min=0).astype(int)
        for (left, top, right, bottom), label in zip(corners.tolist(), sample.labels[learned].tolist(), strict=True):
            inside = np.s_[top:bottom, left:right]
            covered[inside] |= areas[label][mask[inside]]
    is_object = np.asarray(areas.any(axis=0))  # (256,)
    mask[is_object[mask] & ~covered] = UNLABELLED
