"""The interdependent multi-task network: segmentation and detection whose decoder maps feed the detector.

Encoder, eASPP and segmentation decoder are AdapNet++ unchanged (the paper, section 3.1); the detector reads the decoder
maps under the auxiliary supervision, so that detection learns from the segmentation's features. What the paper leaves
open is chosen in docs/decisions.md#the-detector and can be changed in the configuration.

Shape letters: B images in a batch, A predictions per image, K detection classes, C segmentation classes,
H W rows and columns of the input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perception.interfaces import InputSpec, LabelSpace, NetworkOutput, PerceptionNetwork
from perception.networks.anchors import AnchorLayout, PredictionGrid
from perception.networks.encoders import Encoder, EncoderFeatures, EncoderWidths, build_encoder
from perception.networks.interdependent.config import InterdependentConfig
from perception.networks.interdependent.decoder import Decoder, DecoderMaps, MaskHead, PyramidLevels
from perception.networks.interdependent.easpp import Easpp
from perception.networks.interdependent.trident import DetectionHead, PyramidWidths
from perception.networks.layers import InputNormalization, check_images, initialize_he
from perception.networks.predictions import assemble_output


class InterdependentNetwork(PerceptionNetwork):
    """AdapNet++ with a trident detector.

    Attributes:
        bottleneck: The eASPP; belongs to both tasks.
    """

    family = 'interdependent'
    auxiliary_weights = (0.6, 0.5)  # AdapNet++'s code
    mask_weight = 40.0  # the paper: between 30 and 50
    divisor = 16
    class_activation = 'sigmoid'
    config: InterdependentConfig
    encoder: Encoder
    decoder: Decoder
    mask_head: MaskHead
    detection_head: DetectionHead

    def __init__(self, *, name: str, config: InterdependentConfig, labels: LabelSpace, input_spec: InputSpec) -> None:
        super().__init__()
        self.name, self.config, self.labels, self.input_spec = name, config, labels, input_spec
        self.normalize = InputNormalization(input_spec.mean_rgb, input_spec.std_rgb)
        self.encoder = build_encoder(
            config.encoder,
            stem_width=config.stem_width,
            input_norm=config.input_norm,
            block_widths=config.block_widths,
            block_mid_widths=config.block_mid_widths,
            unit_dilations=config.unit_dilations,
            dropout=config.encoder_dropout,
        )
        widths = self.encoder.widths
        self.bottleneck = Easpp(widths.stride16, config)
        self.decoder = Decoder(widths, config)
        self.mask_head = MaskHead(len(labels.segmentation), config)
        self.detection_head = DetectionHead(_detector_widths(widths, config), len(labels.detection), config)
        initialize_he(self)
        self.detection_head.initialize_predictions()

    @property
    def stride(self) -> int:
        """Input pixels per cell of the prediction grid."""
        return self.detection_head.stride

    @property
    def anchors_wh(self) -> Tensor:
        """(9, 2) anchor sizes in input pixels, three for each branch."""
        return self.detection_head.anchors_wh

    def prediction_grid(self, feature_hw: tuple[int, int]) -> PredictionGrid:
        """Cell and anchor of each of the A predictions, for a grid of (H / stride, W / stride) cells."""
        return self.detection_head.prediction_grid(feature_hw)

    def prediction_layout(self, image_hw: tuple[int, int]) -> AnchorLayout:
        """Anchors and cells for input images of this height and width."""
        return AnchorLayout(
            anchors_wh=torch.tensor(self.config.anchors_wh),  # of the buffer a GPU's copy would be waited for
            anchors_per_branch=self.detection_head.anchors_per_branch,
            stride=self.stride,
            feature_hw=(image_hw[0] // self.stride, image_hw[1] // self.stride),
            centre_reach=self.config.centre_reach,
        )

    def forward(self, images: Tensor, *, segment: bool = True, detect: bool = True) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) RGB, uint8 or float in 0..255. In training, one image alone is possible, but its global
                context is normalised with the running statistics.
            segment: If False, the layers for masks alone are skipped and C is 0 in the output.
            detect: If False, the detector is skipped and A is 0 in the output.

        Returns:
            Boxes (B, A, 4) with A = 9 * H/16 * W/16, objectness (B, A), class logits (B, A, K), mask logits
            (B, C, H, W); in training also box codes (B, A, 4) and two auxiliary mask logits,
            (B, C, H/4, W/4) and (B, C, H/8, W/8).

        Raises:
            ShapeError: If images is not (B, 3, H, W) or a side is not a multiple of 16.
        """
        check_images(images, self.divisor)
        image_hw = (images.shape[2], images.shape[3])
        features = self.encoder(self.normalize(images))
        bottleneck = self.bottleneck(features.stride16)
        skips = self.decoder.refine_skips(features)
        decoded = self.decoder(bottleneck, skips)
        levels = self._detector_levels(features, skips, decoded)
        return assemble_output(
            self,
            bottleneck,
            image_hw,
            self.detection_head(levels, bottleneck) if detect else None,
            self.mask_head(decoded.joined.stride4) if segment else None,
            self.mask_head.auxiliary_logits(decoded.upsampled) if segment and self.training else (),
        )

    def _detector_levels(self, features: EncoderFeatures, skips: PyramidLevels, decoded: DecoderMaps) -> PyramidLevels:
        if self.config.detector_features == 'decoder':
            return decoded.joined
        return PyramidLevels(
            torch.cat((features.stride4, skips.stride4), dim=1), torch.cat((features.stride8, skips.stride8), dim=1)
        )


def _detector_widths(encoder: EncoderWidths, config: InterdependentConfig) -> PyramidWidths:
    if config.detector_features == 'decoder':
        return PyramidWidths(*(config.decoder_width + config.skip_width,) * 2)
    return PyramidWidths(encoder.stride4 + config.skip_width, encoder.stride8 + config.skip_width)
