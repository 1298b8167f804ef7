"""What compressed_image_transport makes of each encoding: mosaics, what it has demosaiced itself, and depth."""

from __future__ import annotations

import array
from types import SimpleNamespace

import numpy as np
import pytest

from perception.errors import ImageError
from perception.image_messages import PixelOrder, decode_compressed_image, decode_image, holds_depth
from tests.image_messages.drawn_pictures import add_exif, draw_smooth, encode, exif_block, mosaic_of

PATTERNS = ('rggb', 'bggr', 'gbrg', 'grbg')
RGB = draw_smooth(20, 24)
MOSAIC = mosaic_of(RGB, 'rggb')


def compressed(name: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=name, data=array.array('B', data))


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', PATTERNS)
@pytest.mark.parametrize('ending', ['; png compressed ', '; png compressed', ';png compressed ', '; png'])
def test_a_compressed_mosaic_is_the_raw_one(ending: str, pattern: str, bits: int) -> None:
    mosaic = mosaic_of(RGB, pattern)
    stored = mosaic if bits == 8 else (mosaic.astype('<u2') << 8) + 0x7F
    decoded = decode_compressed_image(compressed(f'bayer_{pattern}{bits}{ending}', encode('.png', stored)))
    raw = SimpleNamespace(
        encoding=f'bayer_{pattern}{bits}',
        height=20,
        width=24,
        step=24 * bits // 8,
        is_bigendian=0,
        data=array.array('B', stored.tobytes()),
    )
    np.testing.assert_array_equal(decoded.to_rgb(), decode_image(raw).to_rgb())
    assert np.abs(decoded.to_rgb().astype(int) - RGB)[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize('target', ['', 'bayer_rggb8'])
def test_a_mosaic_in_a_jpeg_is_demosaiced(target: str) -> None:
    rgb = np.full((32, 32, 3), (180, 120, 60), np.uint8)
    data = encode('.jpg', mosaic_of(rgb, 'rggb'))
    decoded = decode_compressed_image(compressed(f'bayer_rggb8; jpeg compressed {target}', data))
    assert np.abs(decoded.to_rgb().astype(int) - rgb).mean() < 8


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
@pytest.mark.parametrize('target', ['bgr8', ''])
def test_what_has_three_channels_is_demosaiced_already(target: str, kind: str) -> None:
    data = encode(f'.{kind}', RGB[..., ::-1])
    decoded = decode_compressed_image(compressed(f'bayer_rggb8; {kind} compressed {target}', data))
    assert np.abs(decoded.to_rgb().astype(int) - RGB).mean() < 3


def test_what_was_made_grey_before_is_no_mosaic() -> None:
    """Since ROS 2 Humble, JPEG of a mosaic is compressed as mono8."""
    grey = RGB[..., 0]
    decoded = decode_compressed_image(compressed('bayer_rggb8; jpeg compressed mono8', encode('.jpg', grey)))
    assert decoded.order is PixelOrder.MONO
    assert np.abs(decoded.pixels.astype(int) - grey).mean() < 3


def test_a_mosaic_is_demosaiced_as_it_is_stored_and_then_turned() -> None:
    picture = add_exif(encode('.png', MOSAIC), exif_block(6))
    decoded = decode_compressed_image(compressed('bayer_rggb8; png compressed ', picture))
    assert np.abs(decoded.to_rgb().astype(int) - np.rot90(RGB, -1))[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize(
    ('name', 'pixels', 'reason', 'said'),
    [
        ('bayer_rgbw8; png compressed ', MOSAIC, 'unsupported_encoding', "'bayer_rgbw8' of a mosaic .* did you mean"),
        ('bayer_rggb8; png compressed ', MOSAIC[:2], 'odd_size', '2x24; demosaicing needs at least 3x3'),
    ],
)
def test_mosaics_that_cannot_be_read(name: str, pixels: np.ndarray, reason: str, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        decode_compressed_image(compressed(name, encode('.png', pixels)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    'name',
    [
        '16UC1; png compressed ',
        '16UC1; jpeg compressed mono8',
        '32FC1; tiff compressed ',
        '16UC1; compressedDepth png',
        '32FC1; compressedDepth',
        '16UC1',
    ],
)
def test_depth_is_refused_as_what_it_is(name: str) -> None:
    message = compressed(name, encode('.png', np.full((4, 4), 1500, np.uint16)))
    assert holds_depth(message)
    with pytest.raises(ImageError, match='holds depth, which is no picture'):
        decode_compressed_image(message)


@pytest.mark.parametrize(
    'message',
    [
        *(compressed(name, b'') for name in ('mono16; png compressed ', 'mono8; png compressed ', 'jpeg', '')),
        *(SimpleNamespace(encoding=encoding) for encoding in ('mono16', 'bayer_rggb16', '16UC3', 'rgb8')),
    ],
)
def test_brightness_is_no_depth(message: SimpleNamespace) -> None:
    assert not holds_depth(message)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_raw_depth_is_depth(encoding: str) -> None:
    assert holds_depth(SimpleNamespace(encoding=encoding))
