"""Shared blocks."""

import math

import pytest
import torch
from torch import nn

from perception.errors import ShapeError
from perception.networks.layers import (
    InputNormalization,
    SinglePixelNorm,
    bottleneck,
    check_divisible,
    check_images,
    conv_norm,
    deconv_norm,
    initialize_he,
    resize_to,
    stack_levels,
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


def test_a_single_value_is_normalised_with_the_running_statistics() -> None:
    norm = SinglePixelNorm(3).train()
    nn.init.constant_(norm.running_mean, 0.5)
    assert torch.allclose(norm(torch.ones(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 0.5))
    assert torch.equal(norm.running_mean, torch.full((3,), 0.5))
    maps = torch.rand(1, 3, 1, 2)
    torch.testing.assert_close(norm(maps), nn.BatchNorm2d(3).train()(maps))


def test_levels_are_stacked_at_the_size_of_the_finest() -> None:
    finest, coarse = torch.rand(2, 3, 5, 7), torch.rand(2, 4, 3, 4)
    stacked = stack_levels([finest, coarse, coarse.mean(dim=(2, 3), keepdim=True)])
    assert stacked.shape == (2, 11, 5, 7)
    assert torch.equal(stacked[:, :3], finest)
    assert torch.equal(stacked[:, 3:7], resize_to(coarse, (5, 7)))
    assert torch.allclose(stacked[:, 7:], coarse.mean(dim=(2, 3), keepdim=True).expand(-1, -1, 5, 7))


def test_resizing_keeps_the_corners_of_the_image() -> None:
    ramp = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert resize_to(ramp, (1, 4)).flatten().tolist() == [0, 0.25, 0.75, 1]
    assert resize_to(ramp, (1, 4), 'nearest').flatten().tolist() == [0, 0, 1, 1]


def test_a_bottleneck_ends_without_a_relu() -> None:
    branch = bottleneck(8, 4, 6)
    assert sum(parameter.numel() for parameter in branch.parameters()) == 8 * 4 + 8 + 9 * 16 + 8 + 4 * 6 + 12
    assert (branch(torch.randn(2, 8, 5, 5)) < 0).any()
