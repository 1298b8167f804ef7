"""Encoder of AdapNet++: full pre-activation ResNet-50 at output stride 16 with multiscale units.

Valada, Mohan, Burgard: "Self-supervised model adaptation for multimodal semantic segmentation" (AdapNet++), used
unchanged by the interdependent network. Where its code and its text differ: docs/decisions.md#the-encoder.

Shape letters: B images in a batch, H W rows and columns of the input.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from perception.networks.encoders.encoder import Copy, Encoder, EncoderFeatures, EncoderWidths, WeightSource
from perception.networks.encoders.resnet_weights import Counterpart, SummedNorms, plan_copies
from perception.networks.layers import conv_norm

RESNET50_WIDTHS = 64, (256, 512, 1024, 2048), (64, 128, 256, 512)
"""Of the stem, of the blocks, and inside their units: the published ones."""


class PreActivationUnit(nn.Module):
    """1x1, 3x3, 1x1, each after batch norm and ReLU, added to the shortcut.

    With several dilations it is a multiscale unit: the 3x3 is split into convolutions of equal output width on the same
    input, and the parts are concatenated; it has exactly the parameters of a plain unit.
    """

    def __init__(
        self,
        in_width: int,
        mid_width: int,
        out_width: int,
        *,
        dilations: tuple[int, ...] = (1,),
        stride: int = 1,
        activated_input: bool = False,
        residual_dropout: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.activate = nn.Identity() if activated_input else nn.Sequential(nn.BatchNorm2d(in_width), nn.ReLU(True))
        self.reduce = conv_norm(in_width, mid_width, 1, activation=nn.ReLU(True))
        self.part_width = mid_width // len(dilations)
        self.spatial = nn.ModuleList(
            nn.Conv2d(mid_width, self.part_width, 3, stride, padding=rate, dilation=rate, bias=False)
            for rate in dilations
        )
        self.spatial_norm = nn.Sequential(nn.BatchNorm2d(mid_width), nn.ReLU(True))
        self.expand = nn.Conv2d(mid_width, out_width, 1, bias=False)
        self.residual_dropout = residual_dropout or nn.Identity()
        needs_projection = stride != 1 or in_width != out_width
        self.project = nn.Conv2d(in_width, out_width, 1, stride, bias=False) if needs_projection else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h / stride, w / stride)."""
        activated = self.activate(x)
        shortcut = x if self.project is None else self.project(activated)
        reduced = self.reduce(activated)
        spatial = torch.cat([conv(reduced) for conv in self.spatial], dim=1)
        return shortcut + self.residual_dropout(self.expand(self.spatial_norm(spatial)))

    def counterparts(self, name: str, source: str) -> Iterator[Counterpart]:
        """The layers shared with an ordinary bottleneck unit, whose closing norms act where this unit has none."""
        for own, other in {'reduce.conv': 'conv1', 'reduce.norm': 'bn1', 'spatial_norm.0': 'bn2'}.items():
            yield Counterpart(name=f'{name}.{own}', layer=self.get_submodule(own), source=f'{source}.{other}')
        yield Counterpart(
            name=f'{name}.expand', layer=self.expand, source=f'{source}.conv3', folded_norm=f'{source}.bn3'
        )
        if self.project is not None:
            yield Counterpart(
                name=f'{name}.project',
                layer=self.project,
                source=f'{source}.downsample.0',
                folded_norm=f'{source}.downsample.1',
            )
        for index, conv in enumerate(self.spatial):
            yield Counterpart(
                name=f'{name}.spatial.{index}',
                layer=conv,
                source=f'{source}.conv2',
                first_row=index * self.part_width,
                source_rows=len(self.spatial) * self.part_width,
            )


class Block(nn.Module):
    """Units of one width and, where someone reads the block's end, a closing batch norm and ReLU."""

    def __init__(
        self,
        in_width: int,
        mid_width: int,
        out_width: int,
        *,
        unit_dilations: tuple[tuple[int, ...], ...],
        stride: int = 1,
        activated_input: bool = True,
        activated_end: bool = True,
        last_dropout: nn.Module | None = None,
    ) -> None:
        super().__init__()
        last = len(unit_dilations) - 1
        self.units = nn.Sequential(
            *(
                PreActivationUnit(
                    out_width if index else in_width,
                    mid_width,
                    out_width,
                    dilations=dilations,
                    stride=1 if index else stride,
                    activated_input=activated_input and index == 0,
                    residual_dropout=last_dropout if index == last else None,
                )
                for index, dilations in enumerate(unit_dilations)
            )
        )
        self.end = nn.Sequential(nn.BatchNorm2d(out_width), nn.ReLU(True)) if activated_end else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h / stride, w / stride)."""
        return self.end(self.units(x))


class AdapNet(Encoder):
    """The published encoder, of output stride 16 alone; 256, 512 and 2048 channels in the published widths.

    Args:
        stem_width: Output of the 7x7 stem.
        input_norm: Whether a normalisation of the colours is learned on top of the fixed one.
        block_widths, block_mid_widths: Output and inner width of the four blocks.
        unit_dilations: For each block, for each of its units, the dilations of its 3x3.
        dropout: On the last unit's residual branch.
    """

    divisor = 16

    def __init__(
        self,
        *,
        stem_width: int,
        input_norm: bool,
        block_widths: tuple[int, ...],
        block_mid_widths: tuple[int, ...],
        unit_dilations: tuple[tuple[tuple[int, ...], ...], ...],
        dropout: float,
    ) -> None:
        super().__init__()
        widths, mids, dilations = block_widths, block_mid_widths, unit_dilations
        self.widths = EncoderWidths(widths[0], widths[1], widths[3])
        self.torchvision_model = 'resnet50' if (stem_width, block_widths, block_mid_widths) == RESNET50_WIDTHS else ''
        self.input_norm = nn.BatchNorm2d(3) if input_norm else nn.Identity()
        self.stem = conv_norm(3, stem_width, 7, stride=2, activation=nn.ReLU(True))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.block1 = Block(stem_width, mids[0], widths[0], unit_dilations=dilations[0])
        self.block2 = Block(widths[0], mids[1], widths[1], unit_dilations=dilations[1], stride=2)
        # Nothing but block 4 reads block 3's end, so the norm there is the one of block 4's first unit.
        self.block3 = Block(widths[1], mids[2], widths[2], unit_dilations=dilations[2], stride=2, activated_end=False)
        self.block4 = Block(
            widths[2],
            mids[3],
            widths[3],
            unit_dilations=dilations[3],
            activated_input=False,
            last_dropout=nn.Dropout(dropout),
        )

    def forward(self, images: Tensor) -> EncoderFeatures:
        """(B, 3, H, W) normalised -> EncoderFeatures."""
        stride4 = self.block1(self.pool(self.stem(self.input_norm(images))))
        stride8 = self.block2(stride4)
        return EncoderFeatures(stride4, stride8, self.block4(self.block3(stride8)))

    def imagenet_copies(self, source: WeightSource) -> Iterator[Copy]:
        """From an ordinary ResNet-50: torchvision's, or any with its names."""
        return plan_copies(self.counterparts(), source)

    def counterparts(self) -> Iterator[Counterpart | SummedNorms]:
        """Which layer of an ordinary ResNet-50 each layer can start from."""
        yield Counterpart(name='stem.conv', layer=self.stem.get_submodule('conv'), source='conv1')
        yield Counterpart(name='stem.norm', layer=self.stem.get_submodule('norm'), source='bn1')
        added: list[str] = []  # norms of what has been added up since the last projection
        for number, block in enumerate((self.block1, self.block2, self.block3, self.block4), start=1):
            for index, unit in enumerate(block.units):
                assert isinstance(unit, PreActivationUnit)
                name, source = f'block{number}.units.{index}', f'layer{number}.{index}'
                yield from _reads_sum(f'{name}.activate', unit.activate, added)
                yield from unit.counterparts(name, source)
                added = [f'{source}.downsample.1'] if unit.project is not None else added
                added = [*added, f'{source}.bn3']
            yield from _reads_sum(f'block{number}.end', block.end, added)


def _reads_sum(name: str, activation: nn.Module, added: list[str]) -> Iterator[SummedNorms]:
    """The norm of an activation, if it has one."""
    for index, layer in enumerate(activation.children()):
        if isinstance(layer, nn.BatchNorm2d):
            yield SummedNorms(name=f'{name}.{index}', layer=layer, sources=tuple(added))
