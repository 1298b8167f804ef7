"""The losses of a joint network, each task from the images that are annotated for it.

A batch may mix images with masks, with boxes and with both. Detection is divided by what its loss counts,
segmentation by the pixels that have a class, counted over all processes of a distributed run. How objects are matched
with predictions, the network says.

Shape letters: B images in a batch, H W rows and columns of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from perception.errors import ConfigError, ShapeError
from perception.interfaces import UNLABELLED, NetworkOutput, PerceptionNetwork
from training.checks import check_weights
from training.data.sample import Sample, send
from training.detection_loss import DetectionLossConfig, MultiBoxLossConfig, detection_loss_of
from training.mask_truth import MaskTruths, mask_truths
from training.segmentation_loss import (
    SegmentationLossConfig,
    agnostic_loss,
    segmentation_names,
    segmentation_terms,
)

Reduce = Callable[[Tensor], Tensor]
"""Returns the sum of a tensor over all processes."""


def only_this_process(counts: Tensor) -> Tensor:
    """The sum over a single process."""
    return counts


@dataclass(frozen=True, kw_only=True)
class CriterionConfig:
    """What is learned from, and how much of it. The defaults are the published network's (docs/decisions.md).

    Attributes:
        w_seg, w_det: Weights of the two tasks in the total; w_seg None: the network's own.
        segmentation: Of its loss.
        detection, multi_box: Of the loss of detections, for networks of cells and anchors and for those of prior boxes.
    """

    w_seg: float | None = None
    w_det: float = 1.0
    segmentation: SegmentationLossConfig = field(default_factory=SegmentationLossConfig)
    detection: DetectionLossConfig = field(default_factory=DetectionLossConfig)
    multi_box: MultiBoxLossConfig = field(default_factory=MultiBoxLossConfig)

    def __post_init__(self) -> None:
        check_weights('w_seg', 0.0 if self.w_seg is None else self.w_seg)
        check_weights('w_det', self.w_det)

    def mask_weight(self, network: PerceptionNetwork) -> float:
        """What w_seg is for a network."""
        return network.mask_weight if self.w_seg is None else self.w_seg


class Criterion:
    """Named losses of a batch.

    Distributed training gets the gradient of the joint batch exactly: each loss is divided by a count over all
    processes and multiplied by their number, which undoes the mean that DistributedDataParallel takes. The mean of a
    term over the processes is its value for the joint batch.

    Args:
        config: What is learned from.
        reduce: Sum over all processes; used once in each call, on an int64 tensor, whatever the batch holds.

    Raises:
        ConfigError: If the class weights are still to be balanced.
    """

    def __init__(self, config: CriterionConfig | None = None, reduce: Reduce = only_this_process) -> None:
        self.config = config or CriterionConfig()
        self.reduce = reduce
        if self.config.segmentation.class_weights == 'balanced':
            raise ConfigError('class_weights: balanced needs the training masks; call resolve_class_weights first.')

    def __call__(
        self, network: PerceptionNetwork, output: NetworkOutput, samples: Sequence[Sample]
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            network: Says how objects are matched with its predictions, and what its auxiliary masks learn.
            output: Of the network in training mode, for the images of the samples.
            samples: B samples of the network's input size; on the CPU, since a GPU would wait for what is read of them.

        Returns:
            Scalars: ``segmentation``, ``detection`` and their parts (see ``segmentation_terms`` and the losses of
            detections), and ``total``, the weighted sum of the two. A task that was switched off, or that no image of
            this batch is annotated for, is 0 without a gradient; so may be the total.

        Raises:
            ShapeError: If a sample does not fit the output, or an annotation is none of the network's classes.
            PerceptionError: If the network was in evaluation mode.
            ConfigError: If the weights do not fit the network's classes or auxiliary outputs, or a mask is to tell
                objects from the background in a label space that does not say what they are made of.
        """
        _check_batch(samples, output)
        device = output.mask_logits.device
        config = self.config
        masked = [row for row, sample in enumerate(samples) if sample.mask is not None and output.mask_logits.shape[1]]
        boxed = [row for row, sample in enumerate(samples) if sample.boxes is not None and output.objectness.shape[1]]
        truths = mask_truths(network, output, [samples[row] for row in masked], _stack_masks(samples, masked, output))
        layout = network.prediction_layout((output.mask_logits.shape[2], output.mask_logits.shape[3]))
        kind = detection_loss_of(layout)
        local = send(torch.tensor([1, 0, *truths.labelled_pixels()]), device)
        if boxed:
            detection = kind(layout, [samples[row] for row in boxed], getattr(config, kind.settings), device)
            local[1] = detection.count
        counts = self.reduce(local)
        per_detection, *per_pixel = counts[0] / counts[1:].clamp(min=1)

        segmentation = _weigh_auxiliary(config.segmentation, network)
        names = (*segmentation_names(segmentation, agnostic=bool(truths.agnostic)), *kind.names)
        terms = {name: torch.zeros((), device=device) for name in names}
        if masked:
            terms |= _mask_terms(output, masked, truths, segmentation, torch.stack(per_pixel))
        if boxed:
            terms |= detection.terms(_detection_rows(output, boxed), per_detection)
        terms['total'] = config.mask_weight(network) * terms['segmentation'] + config.w_det * terms['detection']
        return terms


def unlearned(losses: Mapping[str, Tensor], output: NetworkOutput) -> Tensor:
    """The sum of what no image of this process is annotated for.

    Times 0 it gives every parameter a gradient: processes exchange all of them, and one process is to do what several
    do, where a part without a gradient would stand still and one with a gradient of 0 goes on with its momentum.
    """
    tensors: list[Tensor] = []
    if not losses['segmentation'].requires_grad:
        tensors += [output.mask_logits, *output.auxiliary_mask_logits, *output.agnostic_mask_logits]
    if not losses['detection'].requires_grad:
        tensors += [part for part in (output.objectness, output.class_logits, output.box_codes) if part is not None]
    return sum((tensor.float().sum() for tensor in tensors), start=losses['total'].new_zeros(()))


def _weigh_auxiliary(config: SegmentationLossConfig, network: PerceptionNetwork) -> SegmentationLossConfig:
    return config if config.auxiliary_weights else replace(config, auxiliary_weights=network.auxiliary_weights)


def _mask_terms(
    output: NetworkOutput, rows: list[int], truths: MaskTruths, config: SegmentationLossConfig, per_pixel: Tensor
) -> dict[str, Tensor]:
    outputs = (output.mask_logits, *output.auxiliary_mask_logits)
    targets = (truths.main, *truths.auxiliary)
    terms = segmentation_terms(outputs, rows, targets, config, per_pixel=per_pixel[: len(outputs)])
    if output.agnostic_mask_logits:
        term = agnostic_loss(output.agnostic_mask_logits, rows, truths.agnostic, per_pixel=per_pixel[len(outputs) :])
        terms |= {'segmentation_agnostic': term, 'segmentation': terms['segmentation'] + config.agnostic_weight * term}
    return terms


def _rows(predictions: Tensor, rows: list[int]) -> Tensor:
    """Some images' predictions, at least in float32: sums over an image are beyond half precision."""
    chosen = predictions
    if len(rows) < len(predictions):
        # Not by indexing, whose gradient a CPU scatters value by value.
        chosen = predictions.index_select(0, send(torch.tensor(rows), predictions.device))
    return chosen.to(torch.promote_types(chosen.dtype, torch.float32))


def _detection_rows(output: NetworkOutput, rows: list[int]) -> NetworkOutput:
    return output._replace(
        boxes=_rows(output.boxes, rows),
        objectness=_rows(output.objectness, rows),
        class_logits=_rows(output.class_logits, rows),
        box_codes=None if output.box_codes is None else _rows(output.box_codes, rows),
    )


def _stack_masks(samples: Sequence[Sample], rows: list[int], output: NetworkOutput) -> Tensor:
    """Masks of some images -> (L, H, W) uint8, with every class checked: a wrong one aborts a GPU without a word."""
    classes = output.mask_logits.shape[1]
    masks = [mask for row in rows if (mask := samples[row].mask) is not None]
    if not masks:
        return torch.zeros((0, *output.mask_logits.shape[2:]), dtype=torch.uint8)
    target = torch.stack(masks)
    if ((target >= classes) & (target != UNLABELLED)).any():
        names = ', '.join(samples[row].name or f'sample {row}' for row in rows)
        raise ShapeError(
            f'A mask among {names} has a class beyond the {classes} of the network; map it or set it to 255.'
        )
    return target


def _check_batch(samples: Sequence[Sample], output: NetworkOutput) -> None:
    image_hw = tuple(output.mask_logits.shape[2:])
    if len(samples) != len(output.mask_logits):
        raise ShapeError(
            f'{len(samples)} samples for an output of {len(output.mask_logits)} images; pass its own batch.'
        )
    for sample in samples:
        mask_hw = image_hw if sample.mask is None else tuple(sample.mask.shape)
        if tuple(sample.image.shape[1:]) != image_hw or mask_hw != image_hw:
            raise ShapeError(
                f'{sample.name or "A sample"} has image {tuple(sample.image.shape[1:])} and mask {mask_hw}, '
                f'but the network saw {image_hw}; transform image, mask and boxes together.'
            )
        if sample.boxes is not None:
            _check_boxes(sample, output.class_logits.shape[2])


def _check_boxes(sample: Sample, classes: int) -> None:
    boxes, labels = sample.boxes, sample.labels
    assert boxes is not None
    if labels is None or boxes.shape != (len(labels), 4):
        found = None if labels is None else tuple(labels.shape)
        raise ShapeError(
            f'{sample.name or "A sample"} has boxes {tuple(boxes.shape)} but labels {found}; give one each.'
        )
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ShapeError(f'{sample.name or "A sample"} has a box without an area; drop boxes that a crop has emptied.')
    if ((labels < 0) | (labels >= classes)).any():
        raise ShapeError(f'{sample.name or "A sample"} has a box label outside of the {classes} detection classes.')
