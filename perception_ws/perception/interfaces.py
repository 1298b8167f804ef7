"""The nouns that the rooms exchange. No behaviour beyond checking themselves.

Shape letters: B images in a batch, A anchors (predictions) per image, K detection classes, C segmentation classes,
H W rows and columns, N detections kept. Boxes are continuous pixel coordinates with 0 at the left / top image edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

from perception.errors import ConfigError

UNLABELLED = 255
"""Mask value of pixels without a class: ignored in losses and scores."""


ANY_CLASS = -1
"""Label of a region that is to be ignored whatever class is looked for."""


class PixelOrder(Enum):
    """How the channels of an 8-bit image lie in memory; the value is the encoding's name in sensor_msgs/Image."""

    RGB = 'rgb8'
    BGR = 'bgr8'
    RGBA = 'rgba8'
    BGRA = 'bgra8'
    MONO = 'mono8'


@dataclass(frozen=True, kw_only=True)
class LabelClass:
    """One class.

    Attributes:
        name: As published in LabelInfo.
        color_rgb: What it is drawn in.
        areas: Of a detection class, the names of the segmentation classes that such an object is made of: where the
            two heads agree. Empty: not said.
    """

    name: str
    color_rgb: tuple[int, int, int]
    areas: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The two class lists of a joint network. A class id is the index in its list."""

    name: str
    segmentation: tuple[LabelClass, ...]
    detection: tuple[LabelClass, ...]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network wants to see: its input size, how images are brought to it, and the normalisation.

    Attributes:
        image_hw: Height and width of the network input in pixels.
        resize: ``stretch`` changes the aspect ratio (the papers); ``letterbox`` keeps it and pads with the mean colour.
        mean_rgb, std_rgb: Normalisation in 8-bit units: ``(image - mean) / std`` inside the network's graph.
    """

    image_hw: tuple[int, int] = (384, 768)
    resize: Literal['stretch', 'letterbox'] = 'stretch'
    mean_rgb: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std_rgb: tuple[float, float, float] = (58.395, 57.12, 57.375)


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """How a network's overlapping candidates become objects. The defaults are the interdependent paper's.

    Attributes:
        nms_threshold: Boxes of one class that overlap more than this (IoU) are one object.
        max_detections: At most so many objects per image.
        max_candidates: At most so many (box, class) pairs of an image enter suppression, the best; 0: all.
        max_candidates_per_class: The same for each class, before those of all are compared; 0: all.
        max_detections_per_class: At most so many objects of a class per image; 0: no limit but that of all.

    Raises:
        ConfigError: If a value is out of range.
    """

    nms_threshold: float = 0.55
    max_detections: int = 200
    max_candidates: int = 1000
    max_candidates_per_class: int = 0
    max_detections_per_class: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.nms_threshold <= 1:
            raise ConfigError(f'nms_threshold must lie in 0..1; got {self.nms_threshold}.')
        if self.max_detections < 1:
            raise ConfigError(f'max_detections must be at least 1; got {self.max_detections}.')
        for name in ('max_candidates', 'max_candidates_per_class', 'max_detections_per_class'):
            if getattr(self, name) < 0:
                raise ConfigError(f'{name} must be at least 0, which is no limit; got {getattr(self, name)}.')


class NetworkOutput(NamedTuple):
    """What every network and every backend returns, in training and in evaluation.

    A task that was switched off in ``forward`` has zero predictions (A = 0 or C = 0).
    """

    boxes: Tensor
    """(B, A, 4) decoded, xyxy in network-input pixels."""
    objectness: Tensor
    """(B, A) logits."""
    class_logits: Tensor
    """(B, A, K)."""
    mask_logits: Tensor
    """(B, C, H, W)."""
    box_codes: Tensor | None = None
    """(B, A, 4) raw regression outputs; training only. Losses use these, never an inverse of the decoding."""
    auxiliary_mask_logits: tuple[Tensor, ...] = ()
    """Each (B, C, h, w) at a stride of its own, nearest to the output first; training only. Losses resize them."""
    agnostic_mask_logits: tuple[Tensor, ...] = ()
    """Each (B, 2, h, w), background and any object, in the same order; training only. Losses resize them."""


class PredictionLayout(Protocol):
    """Where the A predictions for one input size sit, and how their boxes are coded: what objects are matched with."""

    matching: ClassVar[str]
    """The way that networks of this kind are trained; its name in training's DETECTION_LOSSES."""

    @property
    def predictions(self) -> int:
        """A, predictions per image."""
        ...


class PerceptionNetwork(nn.Module):
    """A joint network. Input: (B, 3, H, W) RGB, uint8 or float in 0..255; normalisation is part of its graph.

    Attributes:
        name: Its name in NETWORKS.
        family: The networks of one paper, whose claims training can test.
        config: Its frozen configuration dataclass; together with ``labels`` and ``input_spec`` it rebuilds the network.
        divisor: Both input sides must be multiples of it.
        class_activation: How class_logits become probabilities.
        suppression: How its candidates become objects, unless a user says otherwise.
        encoder, decoder, mask_head, detection_head: The parts that phases train and parameter tables list.
        bottleneck: Where there is one, the part between encoder and decoder, of both tasks.
        auxiliary_weights: Of its auxiliary mask logits in the loss, as published.
        mask_weight: Of the loss of masks beside that of detections, as published.
    """

    name: str
    family: str = ''
    auxiliary_weights: tuple[float, ...] = ()
    mask_weight: float = 1.0
    config: Any
    labels: LabelSpace
    input_spec: InputSpec
    divisor: int
    class_activation: Literal['sigmoid', 'softmax']
    suppression: Suppression = Suppression()
    encoder: nn.Module
    decoder: nn.Module
    mask_head: nn.Module
    detection_head: nn.Module

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        """Run the network; ``segment`` and ``detect`` switch a task and what only that task needs off."""
        raise NotImplementedError

    def prediction_layout(self, image_hw: tuple[int, int]) -> PredictionLayout:
        """What the predictions for input images of this height and width are matched with in training."""
        raise NotImplementedError

    def auxiliary_objects(self, boxes_xyxy: Tensor, image_hw: tuple[int, int]) -> Tensor | None:
        """Which objects (N, 4) each auxiliary mask learns, and the class-agnostic one beside it: (N, masks) bool.

        None, as here: every mask learns all objects, whether they have boxes or not.
        """
        return None


class Backend(Protocol):
    """Something that runs a network: (B, 3, H, W) uint8 RGB -> NetworkOutput on the CPU or the GPU."""

    name: str
    device: str

    def __call__(self, images: Tensor) -> NetworkOutput: ...


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The objects found in one image, best score first, in pixels of the original image."""

    boxes_xyxy: np.ndarray
    """(N, 4) float32."""
    scores: np.ndarray
    """(N,) float32 in 0..1."""
    labels: np.ndarray
    """(N,) int64, index into LabelSpace.detection."""

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """Everything the network says about one image, at the size of the original image."""

    detections: Detections
    mask: np.ndarray
    """(H, W) uint8, index into LabelSpace.segmentation."""
    confidence: np.ndarray | None = None
    """(H, W) uint8, round(255 * highest class probability), when asked for."""
    times_ms: dict[str, float] = field(default_factory=dict)
    """Wall time of ``preprocess``, ``inference`` and ``postprocess``; for a batch, its share per image."""


@dataclass(frozen=True, kw_only=True)
class StampedImage:
    """One camera frame out of a recording."""

    image_rgb: np.ndarray
    """(H, W, 3) uint8."""
    stamp_ns: int
    frame_id: str = ''
    source: str = ''
    """Topic or file it came from."""
    turn: int = 0
    """How many frames of the same stamp came before it, damaged ones included."""


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """What is really in an image, in its own pixels. None means not annotated: that task is not scored on it."""

    boxes_xyxy: np.ndarray | None = None
    """(N, 4) float32."""
    labels: np.ndarray | None = None
    """(N,) int64, index into LabelSpace.detection."""
    ignore_boxes_xyxy: np.ndarray | None = None
    """(M, 4) float32 regions, such as crowds, in which detections are neither right nor wrong."""
    ignore_labels: np.ndarray | None = None
    """(M,) int64, the class that each region is to be ignored for, ANY_CLASS for all; None: all of them for all."""
    mask: np.ndarray | None = None
    """(H, W) uint8, index into LabelSpace.segmentation or UNLABELLED."""
