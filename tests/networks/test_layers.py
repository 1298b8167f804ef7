"""Shared blocks."""

import math

import pytest
import torch
from torch import nn

from perception.errors import ShapeError
from perception.networks.layers import (
    InputNormalization,
    check_divisible,
    check_images,
    conv_norm,
    deconv_norm,
    initialize_he,
)


def test_normalization_is_the_same_for_bytes_and_floats() -> None:
    normalize = InputNormalization((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    expected = (images.double() - torch.tensor([120, 110, 100]).view(3, 1, 1)) / torch.tensor([60, 50, 40]).view(
        3, 1, 1
    )
    assert normalize(images).shape == (2, 3, 4, 5)
    assert normalize(images).dtype == torch.float32
    assert torch.allclose(normalize(images).double(), expected, atol=1e-6)
    assert torch.equal(normalize(images), normalize(images.float()))
    assert normalize.bfloat16()(images).dtype == torch.bfloat16
    assert not normalize.state_dict()


@pytest.mark.parametrize('dilation', [1, 2, 16])
def test_conv_norm_keeps_or_divides_the_size(dilation: int) -> None:
    x = torch.rand(2, 4, 12, 20)
    assert conv_norm(4, 6, 3, dilation=dilation)(x).shape == (2, 6, 12, 20)
    assert conv_norm(4, 6, 1)(x).shape == (2, 6, 12, 20)
    assert conv_norm(4, 6, 7, stride=2, activation=nn.ReLU())(x).shape == (2, 6, 6, 10)


@pytest.mark.parametrize('factor', [2, 4])
def test_deconv_norm_enlarges(factor: int) -> None:
    block = deconv_norm(3, 5, factor)
    assert block(torch.rand(2, 3, 6, 7)).shape == (2, 5, 6 * factor, 7 * factor)
    assert block.get_parameter('conv.weight').shape == (3, 5, 2 * factor, 2 * factor)
    assert [name for name, _ in deconv_norm(3, 5, factor, norm=False).named_parameters()] == [
        'conv.weight',
        'conv.bias',
    ]


def test_he_initialisation_follows_the_inputs() -> None:
    torch.manual_seed(0)
    conv, deconv = nn.Conv2d(32, 128, 3), nn.ConvTranspose2d(64, 16, 4, 2)
    initialize_he(nn.Sequential(conv, deconv))
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.05)
    assert deconv.weight.std().item() == pytest.approx(math.sqrt(2 / (16 * 64)), rel=0.05)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_wrong_sizes_name_the_next_right_one() -> None:
    check_divisible((384, 768), 16)
    with pytest.raises(ShapeError, match=r'360x480.*multiples of 16.*368x480'):
        check_divisible((360, 480), 16)
    with pytest.raises(ShapeError, match=r'\(3, 32, 32\).*\(B, 3, H, W\)'):
        check_images(torch.zeros(3, 32, 32), 16)
    with pytest.raises(ShapeError, match=r'\(1, 4, 32, 32\)'):
        check_images(torch.zeros(1, 4, 32, 32), 16)
