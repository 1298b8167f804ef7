"""Pictures that hold ids: the values as stored, of every depth and with a palette, and the reasons of refusals."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from perception.errors import ImageError
from perception.image_messages import decode_ids
from tests.image_messages.drawn_pictures import encode, grey_png, palette_png, png_chunk


def draw_ids(bits: int) -> np.ndarray:
    """(H, W) uint8 with every value of so many bits."""
    ids = np.random.default_rng(bits).integers(0, 2**bits, (24, 31), np.uint8)
    ids.ravel()[: 2**bits] = np.arange(2**bits)
    return ids


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('write', [palette_png, grey_png])
def test_ids_are_the_stored_values(write, bits: int) -> None:
    ids = draw_ids(bits)
    png = write(ids, bits)
    assert (png[24], png[25]) == (bits, 3 if write is palette_png else 0)
    found = decode_ids(png)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize('write', [palette_png, grey_png])
def test_a_transparent_id_stays_an_id(write) -> None:
    ids = draw_ids(8)
    png = write(ids, 8)
    place = png.index(b'IDAT') - 4
    transparent = png_chunk(b'tRNS', b'\0\x07' if write is grey_png else bytes(256))
    np.testing.assert_array_equal(decode_ids(png[:place] + transparent + png[place:]), ids)


def test_16_bits_where_they_are_wanted() -> None:
    ids = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    np.testing.assert_array_equal(decode_ids(encode('.png', ids), dtypes=(np.uint16, np.uint8)), ids)
    with pytest.raises(ImageError, match='another depth, 16 bits, came; expected one channel of uint8 ids'):
        decode_ids(encode('.png', ids))
    with pytest.raises(ImageError, match='another depth, 8 bits, came; expected one channel of uint16 ids'):
        decode_ids(palette_png(draw_ids(8)), dtypes=(np.uint16,))


@pytest.mark.parametrize(
    ('mode', 'said'), [('RGB', 'with colours came'), ('RGBA', 'colours and alpha'), ('LA', 'grey and alpha')]
)
def test_colours_are_no_ids_even_where_they_are_grey(mode: str, said: str) -> None:
    content = io.BytesIO()
    PIL.Image.fromarray(draw_ids(8)).convert(mode).save(content, 'PNG')
    with pytest.raises(ImageError, match=rf'{said}.*also where red, green and blue are equal') as caught:
        decode_ids(content.getvalue())
    assert caught.value.reason == 'unsupported_encoding'


@pytest.mark.parametrize('kind', ['.jpg', '.bmp'])
def test_other_kinds_change_ids(kind: str) -> None:
    with pytest.raises(ImageError, match='expected PNG') as caught:
        decode_ids(encode(kind, draw_ids(8)))
    assert caught.value.reason == 'unsupported_compression'


def test_damage_is_refused_and_never_read_as_ids() -> None:
    png = palette_png(draw_ids(8))
    begin, end = png.index(b'IDAT') + 4, len(png) - 16
    for place in range(begin, end, 7):
        broken = png[:place] + bytes([png[place] ^ 0x10]) + png[place + 1 :]
        with pytest.raises(ImageError, match='is damaged'):
            decode_ids(broken)
    for length in range(0, len(png), 5):
        with pytest.raises(ImageError):
            decode_ids(png[:length])
