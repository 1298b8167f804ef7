"""EXIF's orientation: Pillow is the oracle of its 8 values; what is broken turns nothing and stops nothing."""

from __future__ import annotations

import array
import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from perception.image_messages import decode_compressed_image, decode_ids, decode_picture
from tests.image_messages.drawn_pictures import add_exif, draw_smooth, encode, exif_block, grey_png, palette_png

PIXELS = {
    'colour': draw_smooth(9, 14),
    'grey': draw_smooth(9, 14)[..., 0],
    '16 bits': draw_smooth(9, 14).astype(np.uint16) * 257,
}
HEADER_FAR_AWAY = b'II*\0\xff\xff\xff\xff'


def turned_by_pillow(picture: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(picture)) as stored:
        return np.asarray(PIL.ImageOps.exif_transpose(stored).convert('RGB'))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    ('kind', 'pixels'),
    [('.jpg', 'colour'), ('.jpg', 'grey'), ('.png', 'colour'), ('.png', 'grey'), ('.png', '16 bits')],
)
def test_all_eight_are_applied(kind: str, pixels: str, orientation: int) -> None:
    picture = add_exif(encode(kind, PIXELS[pixels]), exif_block(orientation))
    decoded = decode_picture(picture)
    assert decoded.pixels.shape[:2] == ((14, 9) if orientation > 4 else (9, 14))
    np.testing.assert_array_equal(decoded.to_rgb(), turned_by_pillow(picture))
    message = SimpleNamespace(format='bgr8; jpeg compressed bgr8', data=array.array('B', picture))
    np.testing.assert_array_equal(decode_compressed_image(message).to_rgb(), decoded.to_rgb())


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('kind', [1, 3, 4], ids=['byte', 'short', 'long'])
@pytest.mark.parametrize('before', [(), (0x010F, 0x0110)], ids=['alone', 'among others'])
@pytest.mark.parametrize('behind', [False, True])
@pytest.mark.parametrize('ending', ['.jpg', '.png'])
def test_however_it_is_written(ending: str, behind: bool, before: tuple[int, ...], kind: int, order: str) -> None:
    stored = encode(ending, draw_smooth(8, 12))
    picture = add_exif(stored, exif_block(6, order=order, kind=kind, before=before), behind=behind)
    np.testing.assert_array_equal(decode_picture(picture).to_rgb(), np.rot90(decode_picture(stored).to_rgb(), -1))


def test_it_is_found_behind_other_application_data() -> None:
    stored = encode('.jpg', draw_smooth(8, 12))
    xmp = b'\xff\xe1\x00\x0bhttp://ns'
    picture = add_exif(stored, exif_block(8))
    assert decode_picture(picture[:2] + xmp + picture[2:]).pixels.shape == (12, 8, 3)


@pytest.mark.parametrize('ending', ['.jpg', '.png'])
@pytest.mark.parametrize(
    'exif',
    [
        *(pytest.param(exif_block(6)[:length], id=f'{length} bytes') for length in (0, 3, 6, 9, 12, 17)),
        *(pytest.param(exif_block(value), id=f'value {value}') for value in (0, 9, 65535)),
        pytest.param(exif_block(6).replace(b'II', b'XX'), id='no byte order'),
        pytest.param(HEADER_FAR_AWAY, id='directory outside'),
        pytest.param(exif_block(6)[:12] + b'\x02' + exif_block(6)[13:], id='text for a number'),
        pytest.param(b'II*\0\x08\0\0\0\xff\xff' + bytes(40), id='more entries than bytes'),
        pytest.param(b'\xff' * 300, id='junk'),
    ],
)
def test_what_is_broken_turns_nothing(exif: bytes, ending: str) -> None:
    stored = encode(ending, draw_smooth(8, 12))
    np.testing.assert_array_equal(decode_picture(add_exif(stored, exif)).pixels, decode_picture(stored).pixels)


def test_a_damaged_chunk_turns_nothing() -> None:
    picture = bytearray(add_exif(encode('.png', draw_smooth(8, 12)), exif_block(6)))
    picture[picture.index(b'eXIf') + 4 + 18] = 8  # the value, not its checksum
    assert decode_picture(bytes(picture)).pixels.shape == (8, 12, 3)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_ids_turn_as_their_image_does(orientation: int) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (9, 14), np.uint8)
    exif = exif_block(orientation)
    wanted = decode_picture(add_exif(encode('.png', ids), exif)).pixels
    for stored in (encode('.png', ids), palette_png(ids), palette_png(ids, 2), grey_png(ids, 2)):
        np.testing.assert_array_equal(decode_ids(add_exif(stored, exif)), wanted)
