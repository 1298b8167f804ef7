"""The ordinary ResNet-50 and -101 (He et al.: "Deep residual learning for image recognition"), of torchvision's layers.

The stride of a unit is in its 3x3, as torchvision's weights want it. The layers keep their names, so that these
weights, and those of others who use the names, fit with nothing left over.

Shape letters: B images in a batch, H W rows and columns of the input.
"""

from __future__ import annotations

from collections.abc import Iterator

import torchvision
from torch import Tensor

from perception.networks.encoders.encoder import Copy, Encoder, EncoderFeatures, EncoderWidths, WeightSource
from perception.networks.encoders.named_weights import copies_by_name


class ResNet(Encoder):
    """All four stages, 256 to 2048 channels wide; the classifier is left out.

    Args:
        model: ``resnet50`` or ``resnet101``.
        output_stride: 32, or 16, where the last stage is dilated in place of its stride.
    """

    divisor = 1

    def __init__(self, model: str, output_stride: int = 32) -> None:
        super().__init__()
        dilated = output_stride == 16
        whole = torchvision.models.get_model(model, weights=None, replace_stride_with_dilation=[False, False, dilated])
        self.torchvision_model = model
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4
        self.dilated = dilated
        self.widths = EncoderWidths(256, 512, 2048) if dilated else EncoderWidths(256, 512, 1024, 2048)

    def forward(self, images: Tensor) -> EncoderFeatures:
        """(B, 3, H, W) normalised -> EncoderFeatures."""
        stride4 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        stride8 = self.layer2(stride4)
        stage3 = self.layer3(stride8)
        last = self.layer4(stage3)
        return (
            EncoderFeatures(stride4, stride8, last) if self.dilated else EncoderFeatures(stride4, stride8, stage3, last)
        )

    def imagenet_copies(self, source: WeightSource) -> Iterator[Copy]:
        """By name, as torchvision's own weights and timm's have them."""
        return copies_by_name(self, source, unread=('fc.',), names={})
