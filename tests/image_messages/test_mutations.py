"""Mutated pictures and messages: whatever comes, a decoder gives pixels or an ImageError, and nothing else.

More of them, with another seed:
python -c 'from tests.image_messages.test_mutations import *; print(count_outcomes(seed=1, count=100_000))'
"""

from __future__ import annotations

import array
import io
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from perception.errors import ImageError
from perception.image_messages import decode_compressed_image, decode_ids, decode_image, decode_picture, picture
from tests.image_messages.drawn_pictures import (
    add_exif,
    draw_smooth,
    encode,
    exif_block,
    grey_png,
    mosaic_of,
    palette_png,
)

FORMATS = (
    *('jpeg', 'png', '', 'h264', 'bgr8; jpeg compressed bgr8', 'rgb8; png compressed bgr8', 'mono8; png compressed '),
    *(
        'bayer_rggb8; png compressed ',
        'bayer_grbg8; jpeg compressed ',
        'bayer_gbrg16; png compressed ',
        'bayer_x8; png',
    ),
    *('bayer_rggb8; jpeg compressed mono8', '16UC1; png compressed ', '16UC1; compressedDepth png', ';;compressed'),
)
ENCODINGS = (
    *(
        'rgb8',
        'bgr8',
        'rgba8',
        'bgra8',
        'mono8',
        'mono16',
        'rgb16',
        'bgra16',
        '8UC1',
        '8UC3',
        '16UC1',
        '32FC1',
        '',
        'x',
    ),
    *('bayer_rggb8', 'bayer_grbg16', 'uyvy', 'yuyv', 'yuv422_yuy2', 'nv12', 'nv21'),
)
NUMBERS = (-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 2**16, 2**31, 2**32 - 1, 2**63)


def save_by_pillow(mode: str, pixels: np.ndarray, **options: object) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(content, 'JPEG', **options)
    return content.getvalue()


def draw_pictures() -> list[bytes]:
    """Small ones of each kind."""
    rgb = draw_smooth(17, 23)
    grey, ids = rgb[..., 0].copy(), np.arange(17 * 23, dtype=np.uint32).reshape(17, 23) % 4
    jpegs = [
        save_by_pillow('RGB', rgb),
        save_by_pillow('RGB', rgb, progressive=True),
        save_by_pillow('L', rgb),
        save_by_pillow('CMYK', rgb),
        save_by_pillow('RGB', rgb, subsampling=1, restart_marker_blocks=1),
        encode('.jpg', mosaic_of(rgb, 'rggb')),
    ]
    pngs = [
        encode('.png', rgb),
        encode('.png', grey.astype(np.uint16) * 257),
        encode('.png', mosaic_of(rgb, 'rggb')),
        encode('.png', np.dstack((rgb, grey))),
        *(palette_png(ids.astype(np.uint8), bits) for bits in (2, 4, 8)),
        grey_png(ids.astype(np.uint8), 2),
    ]
    tagged = [add_exif(picture, exif_block(6)) for picture in (jpegs[0], pngs[0], pngs[4])]
    return [*jpegs, *pngs, *tagged, encode('.bmp', rgb), encode('.bmp', grey)]


def mutate(picture: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, taken out, put in or repeated."""
    mutated = bytearray(picture)
    for _ in range(rng.integers(1, 5)):
        place, length = int(rng.integers(0, len(mutated) + 1)), int(rng.integers(1, 9))
        kind = rng.integers(0, 6)
        if kind == 0:
            mutated[place : place + 1] = rng.bytes(1)
        elif kind == 1 and place < len(mutated):
            mutated[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            del mutated[place : place + length]
        elif kind == 3:
            mutated[place:place] = rng.bytes(length)
        elif kind == 4:
            mutated[place:place] = mutated[place : place + 8 * length]
        else:
            mutated[place : place + 2] = bytes((0xFF, rng.integers(0xC0, 0x100)))
    if rng.random() < 0.1:
        del mutated[int(rng.integers(0, len(mutated) + 1)) :]
    # Nearly no damage to a PNG passes its checksums; what lies behind them is only met with right ones.
    return _with_right_checksums(bytes(mutated)) if rng.random() < 0.5 else bytes(mutated)


def _with_right_checksums(png: bytes) -> bytes:
    mended, position = bytearray(png), 8
    while png.startswith(b'\x89PNG') and position + 12 <= len(png):
        end = position + 8 + int.from_bytes(png[position : position + 4], 'big')
        if end + 4 > len(png):
            break
        mended[end : end + 4] = struct.pack('>I', zlib.crc32(png[position + 4 : end]))
        position = end + 4
    return bytes(mended)


def mutate_image(rng: np.random.Generator) -> SimpleNamespace:
    """A sensor_msgs/Image, half of them with numbers that fit together."""
    height, width, step, size = (int(rng.choice(np.array(NUMBERS, object))) for _ in range(4))
    if rng.random() < 0.5:
        height, width = (int(rng.integers(1, 9)) for _ in range(2))
        step = width * int(rng.integers(1, 9))
        size = step * height * int(rng.choice((2, 3))) // 2
    return SimpleNamespace(
        encoding=str(rng.choice(ENCODINGS)),
        height=height,
        width=width,
        step=step,
        is_bigendian=int(rng.integers(0, 3)),
        data=array.array('B', rng.bytes(min(max(size, 0), 4096))),
    )


def draw_call(pictures: list[bytes], rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """One call of a decoder with something mutated."""
    decoder = rng.integers(0, 4)
    if decoder == 0:
        image = mutate_image(rng)
        return lambda: decode_image(image).to_rgb()
    data = mutate(pictures[rng.integers(0, len(pictures))], rng)
    if decoder == 1:
        return lambda: decode_picture(data).to_rgb()
    if decoder == 2:
        return lambda: decode_ids(data, dtypes=(np.uint8, np.uint16))
    name = str(rng.choice(FORMATS))
    if rng.random() < 0.2:
        name = mutate(name.encode(), rng).decode(errors='replace')
    message = SimpleNamespace(format=name, data=array.array('B', data))
    return lambda: decode_compressed_image(message).to_rgb()


def count_outcomes(seed: int, count: int) -> Counter[str]:
    """Decode mutated inputs; how many gave pixels, and the reasons of those that did not.

    Raises:
        Exception: Any that is no ImageError.
    """
    rng, pictures = np.random.default_rng(seed), draw_pictures()
    outcomes: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        # A mutated header may promise a hundred megapixels, which take a second each.
        patch.setattr(picture, 'MAX_PIXELS', 100_000)
        for _ in range(count):
            outcomes[_outcome(draw_call(pictures, rng))] += 1
    return outcomes


def _outcome(call: Callable[[], np.ndarray]) -> str:
    try:
        pixels = call()
    except ImageError as error:
        return error.reason
    assert pixels.ndim in (2, 3)
    assert pixels.dtype in (np.uint8, np.uint16)
    return 'pixels'


def test_nothing_but_an_image_error_comes_out(capfd: pytest.CaptureFixture[str]) -> None:  # libpng's words are many
    outcomes = count_outcomes(seed=16, count=10_000)
    reasons = {'undecodable', 'truncated', 'too_large', 'wrong_step', 'wrong_length', 'unsupported_encoding'}
    assert outcomes.keys() >= {'pixels', *reasons}
    assert outcomes['pixels'] > 500, 'most mutations stop at the first check'
