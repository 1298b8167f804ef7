"""The maps beyond the encoder's: sizes, and the parameters of the published blocks."""

import pytest
import torch
from torch import nn

from perception.networks.downscale import Downscale, plain_downscale, residual_downscale


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ('build', 'of_blocks'),
    [
        # Two units 2048-512-512-2048 each, the shortcut without weights.
        (lambda: residual_downscale(2048, 2048, blocks=3), [8_925_184] * 3),
        # 512 wide, with a projection where the encoder's map goes in.
        (lambda: residual_downscale(2048, 512, blocks=2), [1_806_336, 560_128]),
        (lambda: plain_downscale(2048, 256, 512, blocks=2), [1_705_472, 1_312_256]),
    ],
)
def test_parameters_of_the_blocks(build: object, of_blocks: list[int]) -> None:
    with torch.device('meta'):
        downscale = build()  # type: ignore[operator]
    assert [parameters(block) for block in downscale] == of_blocks


@pytest.mark.parametrize(
    'downscale', [residual_downscale(24, 16, blocks=3, units=1), plain_downscale(24, 8, 16, blocks=3)]
)
@pytest.mark.parametrize(('batch', 'size_hw'), [(2, (10, 19)), (1, (1, 1))])
def test_each_level_is_half_the_one_before_rounded_up(
    downscale: Downscale, batch: int, size_hw: tuple[int, int]
) -> None:
    levels = downscale.train()(torch.randn(batch, 24, *size_hw))
    assert downscale.width == 16
    expected = [(5, 10), (3, 5), (2, 3)] if batch == 2 else [(1, 1)] * 3
    assert [tuple(level.shape) for level in levels] == [(batch, 16, *hw) for hw in expected]


def test_the_shortcut_is_every_other_pixel() -> None:
    block = residual_downscale(16, 16, blocks=1, units=1)[0]
    nn.init.zeros_(block.get_submodule('0.bn3').weight)
    maps = torch.rand(1, 16, 5, 6)
    assert torch.equal(block.eval()(maps), maps[:, :, ::2, ::2])
