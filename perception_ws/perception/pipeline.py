"""Perceiver: an image in, everything the network says about it out. Holds no ROS.

The node, the demo, bag evaluation and benchmarks all look through this one class.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch

from perception.backends import build_backend
from perception.checkpoint import Checkpoint
from perception.image import prepare_image
from perception.interfaces import PixelOrder, SceneResult
from perception.postprocess import PostprocessConfig, postprocess


class Perceiver:
    """Runs one network on images of any size.

    Args:
        checkpoint: The network with its weights; says what input it wants.
        backend, device, precision: How it is run; see ``perception.backends``.
        config: What is reported. May be replaced at any time by assigning ``perceiver.config``.

    Raises:
        ConfigError: If backend, device or precision cannot be served on this machine.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        backend: str = 'eager',
        device: str = 'auto',
        precision: str = 'fp32',
        config: PostprocessConfig | None = None,
    ) -> None:
        self.checkpoint, self.backend, self.precision = checkpoint, backend, precision
        self.labels = checkpoint.network.labels
        self.config = config or PostprocessConfig()
        self.input_spec = checkpoint.network.input_spec
        self._class_activation = checkpoint.network.class_activation
        self._suppression = checkpoint.network.suppression
        self._backend = build_backend(backend, checkpoint.network, device=device, precision=precision)

    @property
    def device(self) -> str:
        return self._backend.device

    def __call__(
        self, image: np.ndarray, order: PixelOrder = PixelOrder.RGB, *, with_confidence: bool = False
    ) -> SceneResult:
        """Look at one (H, W, 3) uint8 image; boxes and mask come back in its own pixels.

        Raises:
            ShapeError: If the array is not such an image.
            NotFiniteError: If the network's output is not finite.
        """
        return self.perceive([image], [order], with_confidence=with_confidence)[0]

    def perceive(
        self,
        images: Sequence[np.ndarray],
        orders: Sequence[PixelOrder] | None = None,
        *,
        with_confidence: bool = False,
    ) -> list[SceneResult]:
        """Look at a batch of images, which may differ in size and pixel order; one result each.

        Raises:
            ShapeError: If one of the arrays is not such an image.
            NotFiniteError: If the network's output for one of them is not finite.
        """
        if not images:
            return []
        start = perf_counter()
        orders = orders or [PixelOrder.RGB] * len(images)
        prepared = [prepare_image(image, self.input_spec, order) for image, order in zip(images, orders, strict=True)]
        batch = torch.from_numpy(np.stack([image for image, _ in prepared])).permute(0, 3, 1, 2)  # (B, 3, h, w)
        prepared_at = perf_counter()
        output = self._backend(batch)
        inferred_at = perf_counter()
        results = postprocess(
            output,
            [geometry for _, geometry in prepared],
            self.config,
            class_activation=self._class_activation,
            suppression=self._suppression,
            with_confidence=with_confidence,
        )
        share = 1000 / len(images)
        times_ms = {
            'preprocess': (prepared_at - start) * share,
            'inference': (inferred_at - prepared_at) * share,
            'postprocess': (perf_counter() - inferred_at) * share,
        }
        return [replace(result, times_ms=times_ms) for result in results]

    def warm_up(self, iterations: int) -> None:
        """Run on blank images, so that the first real frame is not the slow one.

        Call it on the thread that will look at frames: libraries prepare themselves for each thread anew.
        """
        blank = np.zeros((*self.input_spec.image_hw, 3), np.uint8)
        # Nothing is seen in a blank image; without a threshold there is something to suppress all the same.
        attentive = copy(self)
        attentive.config = replace(self.config, score_threshold=0.0)
        for _ in range(iterations):
            attentive(blank)
