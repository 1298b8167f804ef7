"""Encodings against oracles drawn here, both message libraries, and every way in which a message can be bad."""

from __future__ import annotations

import array
import io
import struct
import sys
import types
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg
from rosbags.typesys import Stores, get_typestore

from perception import image_messages
from perception.errors import ImageError, ShapeError
from perception.image_messages import (
    DecodedImage,
    PixelOrder,
    decode_compressed_image,
    decode_image,
    decode_picture,
    encode_image_fields,
    encode_jpeg_fields,
)

CHANNELS = {'rgb': [0, 1, 2], 'bgr': [2, 1, 0], 'rgba': [0, 1, 2, 3], 'bgra': [2, 1, 0, 3]}
PATTERNS = ('rggb', 'bggr', 'gbrg', 'grbg')


def draw(height: int, width: int, channels: int = 3) -> np.ndarray:
    """(H, W, channels) noise: every wrong stride, order or offset shows."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), np.uint8)


def draw_smooth(height: int, width: int) -> np.ndarray:
    """(H, W, 3) slow ramps, each color in a direction of its own, so that subsampling loses little."""
    y, x = np.mgrid[:height, :width]
    return np.stack((40 + 2 * x, 200 - 2 * y, 60 + x + y), axis=-1).astype(np.uint8)


def message(
    encoding: str, rows: np.ndarray, width: int, *, height: int | None = None, pad: int = 0, is_bigendian: int = 0
) -> SimpleNamespace:
    """A sensor_msgs/Image whose rows of bytes carry ``pad`` bytes of junk at their end."""
    rows = rows.reshape(len(rows), -1).view(np.uint8)
    padded = np.concatenate((rows, np.full((len(rows), pad), 0xA5, np.uint8)), axis=1)
    return SimpleNamespace(
        encoding=encoding,
        height=len(rows) if height is None else height,
        width=width,
        step=padded.shape[1],
        is_bigendian=is_bigendian,
        data=array.array('B', padded.tobytes()),
    )


def refuse(msg: SimpleNamespace) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(msg)
    return caught.value


# --- encodings that are a view


@pytest.mark.parametrize('pad', [0, 1, 5])
@pytest.mark.parametrize('size', [(6, 8), (7, 5), (1, 1)])
@pytest.mark.parametrize('name', CHANNELS)
def test_color_is_a_view_with_the_right_channels(name: str, size: tuple[int, int], pad: int) -> None:
    rgba = draw(*size, channels=4)
    stored = np.ascontiguousarray(rgba[..., CHANNELS[name]])
    msg = message(f'{name}8', stored, size[1], pad=pad)
    decoded = decode_image(msg)
    assert decoded.order is PixelOrder(f'{name}8')
    assert decoded.assumed is None
    assert decoded.pixels.shape == (*size, len(name))
    np.testing.assert_array_equal(decoded.pixels, stored)
    assert np.shares_memory(decoded.pixels, np.frombuffer(msg.data, np.uint8))
    rgb = decoded.to_rgb()
    assert rgb.shape == (*size, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, rgba[..., :3])


@pytest.mark.parametrize('pad', [0, 3])
def test_mono8_is_a_view(pad: int) -> None:
    gray = draw(5, 7, 1)
    msg = message('mono8', gray, 7, pad=pad)
    decoded = decode_image(msg)
    assert decoded.order is PixelOrder.MONO
    assert decoded.pixels.shape == (5, 7)
    assert np.shares_memory(decoded.pixels, np.frombuffer(msg.data, np.uint8))
    np.testing.assert_array_equal(decoded.to_rgb(), np.repeat(gray, 3, axis=2))


def test_rgb8_without_padding_stays_a_view_as_rgb() -> None:
    msg = message('rgb8', draw(4, 6), 6)
    assert np.shares_memory(decode_image(msg).to_rgb(), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize(('encoding', 'channels'), [('mono8', 1), ('rgb8', 3), ('bgra8', 4)])
def test_opencv_works_on_padded_rows_in_place(encoding: str, channels: int) -> None:
    # OpenCV refuses to draw into a layout that it would have to copy, so drawing proves that it takes the view.
    msg = message(encoding, np.zeros((9, 11 * channels), np.uint8), 11, pad=5)
    pixels = decode_image(msg).pixels
    cv2.rectangle(pixels, (2, 3), (4, 5), (255,) * channels, -1)
    drawn = np.frombuffer(msg.data, np.uint8).reshape(9, -1)
    assert np.count_nonzero(drawn[:, : 11 * channels]) == 9 * channels
    assert (drawn[:, 11 * channels :] == 0xA5).all()
    np.testing.assert_array_equal(cv2.resize(pixels, (5, 4)), cv2.resize(np.ascontiguousarray(pixels), (5, 4)))


@pytest.mark.parametrize(
    ('encoding', 'meant', 'channels'), [('8UC1', 'mono8', 1), ('8UC3', 'bgr8', 3), ('8UC4', 'bgra8', 4)]
)
def test_unnamed_channels_are_assumed_and_said(encoding: str, meant: str, channels: int) -> None:
    stored = draw(4, 5, channels)
    decoded, plain = (decode_image(message(name, stored, 5, pad=2)) for name in (encoding, meant))
    np.testing.assert_array_equal(decoded.to_rgb(), plain.to_rgb())
    assert decoded.order is plain.order
    assert decoded.assumed is not None
    assert encoding in decoded.assumed
    assert meant in decoded.assumed


@pytest.mark.parametrize('as_type', [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_any_buffer_will_do(as_type) -> None:
    msg = message('rgb8', draw(3, 4), 4)
    msg.data = as_type(msg.data.tobytes())
    np.testing.assert_array_equal(decode_image(msg).pixels, draw(3, 4))


# --- encodings that are converted


@pytest.mark.parametrize('is_bigendian', [0, 1, False, True])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'rgb16', 'bgr16', 'rgba16', 'bgra16'])
def test_16_bits_keep_their_high_byte_in_both_byte_orders(encoding: str, is_bigendian: int) -> None:
    name = encoding[:-2]
    channels = CHANNELS.get(name, [0])
    values = np.random.default_rng(7).integers(0, 65536, (5, 7, 4), np.uint16)
    stored = np.ascontiguousarray(values[..., channels]).astype('>u2' if is_bigendian else '<u2')
    decoded = decode_image(message(encoding, stored, 7, pad=3, is_bigendian=is_bigendian))
    expected = values[..., :3] if name in CHANNELS else np.repeat(values[..., :1], 3, axis=2)
    np.testing.assert_array_equal(decoded.to_rgb(), expected >> 8)
    assert (decoded.assumed is not None) == (encoding == '16UC1')


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('size', [(20, 24), (21, 23)])
@pytest.mark.parametrize('pattern', PATTERNS)
def test_bayer_gives_the_colors_back(pattern: str, size: tuple[int, int], bits: int) -> None:
    rgb = draw_smooth(*size)
    mosaic = np.empty(size, np.uint8)
    for index, color in enumerate(pattern):
        y, x = divmod(index, 2)
        mosaic[y::2, x::2] = rgb[y::2, x::2, 'rgb'.index(color)]
    stored = mosaic if bits == 8 else (mosaic.astype('<u2') << 8) + 0x7F
    decoded = decode_image(message(f'bayer_{pattern}{bits}', stored, size[1], pad=4))
    assert decoded.order is PixelOrder.RGB
    error = np.abs(decoded.to_rgb().astype(int) - rgb)[2:-2, 2:-2]
    assert error.max() <= 1  # a ramp survives linear interpolation


def to_yuv(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) studio-swing BT.601, as cameras send it."""
    matrix = np.array([[65.738, 129.057, 25.064], [-37.945, -74.494, 112.439], [112.439, -94.154, -18.285]]) / 256
    return (rgb @ matrix.T + [16, 128, 128]).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ('encoding', 'order'), [('uyvy', 'uyvy'), ('yuv422', 'uyvy'), ('yuyv', 'yuyv'), ('yuv422_yuy2', 'yuyv')]
)
def test_yuv422_gives_the_colors_back(encoding: str, order: str) -> None:
    rgb = draw_smooth(15, 24)
    yuv = to_yuv(rgb)
    planes = {'u': iter([yuv[:, ::2, 1]]), 'v': iter([yuv[:, ::2, 2]]), 'y': iter([yuv[:, ::2, 0], yuv[:, 1::2, 0]])}
    stored = np.stack([next(planes[letter]) for letter in order], axis=-1)
    decoded = decode_image(message(encoding, stored, 24, pad=6))
    assert decoded.order is PixelOrder.RGB
    assert np.abs(decoded.to_rgb().astype(int) - rgb).max() <= 6


@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_nv12_and_nv21_give_the_colors_back(encoding: str) -> None:
    rgb = draw_smooth(16, 24)
    yuv = to_yuv(rgb)
    chroma = yuv[::2, ::2, 1:] if encoding == 'nv12' else yuv[::2, ::2, :0:-1]
    stored = np.concatenate((yuv[..., 0], chroma.reshape(8, 24)))
    decoded = decode_image(message(encoding, stored, 24, height=16, pad=8))
    assert decoded.pixels.shape == (16, 24, 3)
    assert np.abs(decoded.to_rgb().astype(int) - rgb).max() <= 8


# --- bad images


@pytest.mark.parametrize(
    ('encoding', 'size'),
    [('uyvy', (4, 5)), ('yuyv', (4, 7)), ('nv12', (4, 5)), ('nv21', (5, 4)), ('bayer_rggb8', (2, 8))],
)
def test_sizes_that_the_pattern_cannot_serve(encoding: str, size: tuple[int, int]) -> None:
    error = refuse(message(encoding, np.zeros((size[0], size[1] * 2), np.uint8), size[1]))
    assert error.reason == 'odd_size'
    assert f'{size[0]}x{size[1]}' in str(error)


def test_yuv422_accepts_an_odd_height() -> None:
    assert decode_image(message('uyvy', np.zeros((3, 8), np.uint8), 4)).pixels.shape == (3, 4, 3)


@pytest.mark.parametrize('field', ['height', 'width'])
def test_zero_size(field: str) -> None:
    msg = message('rgb8', draw(3, 4), 4)
    setattr(msg, field, 0)
    assert refuse(msg).reason == 'zero_size'


def test_wrong_step_says_the_right_one() -> None:
    msg = message('rgb8', draw(3, 4), 4)
    msg.step = 11
    error = refuse(msg)
    assert error.reason == 'wrong_step'
    assert '11' in str(error)
    assert '12' in str(error)


@pytest.mark.parametrize('change', [-36, -1, 1, 12])
def test_wrong_length_says_both_numbers(change: int) -> None:
    msg = message('rgb8', draw(3, 4), 4)
    msg.data = (msg.data.tobytes() + bytes(12))[: 36 + change]
    error = refuse(msg)
    assert error.reason == 'wrong_length'
    assert str(36 + change) in str(error)
    assert ' 36 ' in str(error)


def test_data_that_is_no_bytes() -> None:
    msg = message('rgb8', draw(3, 4), 4)
    msg.data = 'text'
    assert refuse(msg).reason == 'undecodable'


@pytest.fixture
def cv_bridge_module(monkeypatch: pytest.MonkeyPatch):
    """Install a module in place of cv_bridge; None makes its import fail."""

    def install(module: types.ModuleType | None) -> None:
        monkeypatch.setitem(sys.modules, 'cv_bridge', module)
        image_messages.raw._find_cv_bridge.cache_clear()

    yield install
    image_messages.raw._find_cv_bridge.cache_clear()


def test_unknown_encoding_without_cv_bridge(cv_bridge_module) -> None:
    cv_bridge_module(None)
    error = refuse(message('rgb-8', draw(3, 4), 4))
    assert error.reason == 'unsupported_encoding'
    assert "'rgb-8' is not supported: did you mean 'rgb8'? Known are " in str(error)


def test_unknown_encoding_through_cv_bridge(cv_bridge_module) -> None:
    seen = []

    class CvBridge:
        def imgmsg_to_cv2(self, msg: SimpleNamespace, encoding: str) -> np.ndarray:
            seen.append((msg.encoding, encoding))
            if msg.encoding != '32FC3':
                raise RuntimeError('no such conversion')
            return draw(3, 4)

    module = types.ModuleType('cv_bridge')
    module.CvBridge = CvBridge
    cv_bridge_module(module)
    decoded = decode_image(message('32FC3', draw(3, 48), 4))
    assert decoded.order is PixelOrder.BGR
    np.testing.assert_array_equal(decoded.to_rgb(), draw(3, 4)[..., ::-1])
    assert refuse(message('nonsense', draw(3, 4), 4)).reason == 'unsupported_encoding'
    assert seen == [('32FC3', 'bgr8'), ('nonsense', 'bgr8')]


# --- compressed pictures


def compress(kind: str, image: np.ndarray) -> bytes:
    return cv2.imencode(kind, image)[1].tobytes()


def compressed(name: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=name, data=array.array('B', data))


@pytest.mark.parametrize('name', ['png', 'bgr8; png compressed', 'rgb8; png compressed bgr8', ''])
def test_png_is_exact(name: str) -> None:
    rgb = draw(13, 17)
    decoded = decode_compressed_image(compressed(name, compress('.png', rgb[..., ::-1])))
    assert decoded.order is PixelOrder.BGR
    np.testing.assert_array_equal(decoded.to_rgb(), rgb)


@pytest.mark.parametrize('name', ['jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8'])
def test_jpeg_gives_the_colors_back(name: str) -> None:
    rgb = draw_smooth(31, 45)
    decoded = decode_compressed_image(compressed(name, compress('.jpg', rgb[..., ::-1])))
    assert decoded.to_rgb().shape == (31, 45, 3)
    assert np.abs(decoded.to_rgb().astype(int) - rgb).mean() < 3


@pytest.mark.parametrize(('name', 'kind'), [('mono8; jpeg compressed ', '.jpg'), ('mono8; png compressed ', '.png')])
def test_gray_pictures_stay_mono(name: str, kind: str) -> None:
    gray = draw_smooth(9, 12)[..., 0]
    decoded = decode_compressed_image(compressed(name, compress(kind, gray)))
    assert decoded.order is PixelOrder.MONO
    assert decoded.pixels.shape == (9, 12)
    assert np.abs(decoded.pixels.astype(int) - gray).mean() < 3


def test_alpha_and_16_bits_of_png() -> None:
    bgra = draw(8, 9, 4)
    decoded = decode_compressed_image(compressed('bgra8; png compressed', compress('.png', bgra)))
    np.testing.assert_array_equal(decoded.to_rgb(), bgra[..., 2::-1])
    deep = np.random.default_rng(3).integers(0, 65536, (8, 9, 3), np.uint16)
    decoded = decode_compressed_image(compressed('bgr16; png compressed bgr16', compress('.png', deep)))
    np.testing.assert_array_equal(decoded.to_rgb(), deep[..., ::-1] >> 8)
    decoded = decode_compressed_image(compressed('mono16; png compressed ', compress('.png', deep[..., 0])))
    np.testing.assert_array_equal(decoded.pixels, deep[..., 0] >> 8)


def test_bmp_is_decoded() -> None:
    np.testing.assert_array_equal(decode_picture(compress('.bmp', draw(5, 6))).pixels, draw(5, 6))


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'subsampling': 0}, {'subsampling': 2, 'quality': 40}])
def test_jpeg_equals_opencv_to_the_bit(mode: str, options: dict[str, object]) -> None:
    content = io.BytesIO()
    PIL.Image.fromarray(draw_smooth(37, 53)).convert(mode).save(content, 'JPEG', **options)
    decoded = decode_picture(content.getvalue())
    wanted = cv2.imdecode(np.frombuffer(content.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded.to_rgb(), wanted[..., ::-1])


def test_a_jpeg_cut_anywhere_in_its_header_is_refused() -> None:
    picture = compress('.jpg', np.zeros((40, 40, 3), np.uint8))
    for kept in range(3, picture.index(b'\xff\xda')):  # up to the start of the scan
        with pytest.raises(ImageError):
            decode_picture(picture[:kept] + picture[-2:])


@pytest.mark.parametrize('junk', [b'\xff', b'\0', b'\x55'])
def test_a_jpeg_damaged_inside_is_refused(junk: bytes) -> None:
    """OpenCV decodes these to pictures that are grey from the damage on."""
    jpeg = compress('.jpg', draw(240, 320))
    broken = jpeg[: len(jpeg) // 2] + junk * 2000 + jpeg[len(jpeg) // 2 + 2000 :]
    assert cv2.imdecode(np.frombuffer(broken, np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(ImageError, match='is damaged') as caught:
        decode_picture(broken)
    assert caught.value.reason == 'undecodable'


@pytest.mark.parametrize('marker', [b'\xff\xd0', b'\xff\xd9'], ids=['before a restart', 'before the end'])
def test_bytes_too_many_in_a_jpeg_are_tolerated(marker: bytes) -> None:
    pixels = draw_smooth(24, 32)
    jpeg = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes()
    place = jpeg.index(marker)
    for padding in (bytes(7), b'\x55' * 10):
        padded = jpeg[:place] + padding + jpeg[place:]
        np.testing.assert_array_equal(decode_picture(padded).pixels, decode_picture(jpeg).pixels)


@pytest.mark.parametrize('seed', range(3))
def test_bytes_that_damage_has_left_over_are_not_called_padding(seed: int) -> None:
    """Of what is left over behind the last block, a decoder only counts the bytes."""
    rng = np.random.default_rng(seed)
    jpeg = compress('.jpg', draw(240, 320))
    left_over = 0
    while left_over < 5:
        place = int(rng.integers(jpeg.index(b'\xff\xda') + 20, len(jpeg) - 200))
        broken = jpeg[:place] + rng.bytes(16).replace(b'\xff', b'\0') + jpeg[place + 16 :]
        try:
            decode_picture(broken)
        except ImageError as error:
            left_over += 'extraneous' in str(error)
        else:
            simplejpeg.decode_jpeg(broken)  # strictly: no decoder could know


def test_what_lies_behind_a_jpeg_does_not_matter() -> None:
    jpeg = compress('.jpg', draw_smooth(24, 32))
    np.testing.assert_array_equal(decode_picture(jpeg + b'film' * 50).pixels, decode_picture(jpeg).pixels)
    thumbnail = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(jpeg) + 2) + jpeg + jpeg[2:]
    assert decode_picture(thumbnail + b'film').pixels.shape == (24, 32, 3)
    with pytest.raises(ImageError) as caught:
        decode_picture(thumbnail[:-20])
    assert caught.value.reason == 'truncated'


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_zero_padding_behind_a_picture_is_tolerated(kind: str) -> None:
    picture = compress(kind, draw_smooth(20, 30))
    np.testing.assert_array_equal(decode_picture(picture + bytes(100)).pixels, decode_picture(picture).pixels)


@pytest.mark.parametrize(
    ('name', 'data', 'reason'),
    [
        ('jpeg', b'', 'undecodable'),
        ('h264', b'', 'undecodable'),
        ('jpeg', b'junk' * 100, 'undecodable'),
        ('png', b'\0' * 100, 'undecodable'),
        ('jpeg', b'\xff\xd8junk\xff\xd9', 'undecodable'),
        ('jpeg', b'\xff\xd8\xff\xd9', 'undecodable'),
        ('png', b'\x89PNG\r\n\x1a\nIEND\xaeB`\x82', 'undecodable'),
        ('h264', b'\0\0\0\1\x67', 'unsupported_compression'),
        ('16UC1; compressedDepth png', compress('.png', np.zeros((4, 4), np.uint16)), 'unsupported_compression'),
        ('jpeg', compress('.jpg', np.zeros((40, 40, 3), np.uint8))[:-2], 'truncated'),
        ('png', compress('.png', np.zeros((40, 40, 3), np.uint8))[:-12], 'truncated'),
        ('jpeg', compress('.jpg', np.zeros((40, 40, 3), np.uint8))[:-20] + bytes(20), 'truncated'),
        ('bmp', compress('.bmp', np.full((40, 40, 3), 9, np.uint8))[:-1000], 'undecodable'),
    ],
)
def test_bad_pictures(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_compressed_image(compressed(name, data))
    assert caught.value.reason == reason


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


def test_picture_bombs_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('the bomb was decoded'))
    header = struct.pack('>IIBBBBB', 20_000, 20_000, 8, 2, 0, 0, 0)
    png = b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header) + png_chunk(b'IEND', b'')
    frame = b'\xff\xc2\x00\x11\x08' + struct.pack('>HH', 65_000, 65_000) + bytes(10)
    jpeg = b'\xff\xd8\xff\xe0\x00\x04ab\xff' + frame + b'\xff\xd9'  # also a segment and a fill byte before the frame
    bmp = b'BM' + bytes(16) + struct.pack('<ii', 20_000, -20_000) + b'\x01'
    for picture in (png, jpeg, bmp):
        with pytest.raises(ImageError, match=r'20000x20000|65000x65000') as caught:
            decode_picture(picture)
        assert caught.value.reason == 'too_large'


@pytest.mark.parametrize('kind', ['.jpg', '.png', '.bmp'])
def test_damage_raises_nothing_but_image_error(kind: str) -> None:
    rng = np.random.default_rng(11)
    picture = compress(kind, draw_smooth(40, 60))
    outcomes = {'whole': 0, 'refused': 0}
    for _ in range(200):
        damaged = bytearray(picture[: rng.integers(0, len(picture))] if rng.random() < 0.5 else picture)
        for position in rng.integers(0, max(len(damaged), 1), rng.integers(0, 4)):
            damaged[position : position + 1] = rng.bytes(1)
        try:
            assert decode_picture(bytes(damaged)).pixels.dtype == np.uint8
            outcomes['whole'] += 1
        except ImageError:
            outcomes['refused'] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_every_truncation_is_refused(kind: str) -> None:
    picture = compress(kind, draw_smooth(24, 32))
    for length in range(len(picture)):
        with pytest.raises(ImageError) as caught:
            decode_picture(picture[:length])
        assert caught.value.reason in ('truncated', 'undecodable')


# --- encoding, and both message libraries


@pytest.mark.parametrize('order', list(PixelOrder))
def test_encoding_and_decoding_are_inverse(order: PixelOrder) -> None:
    image = draw(5, 7, 1)[..., 0] if order is PixelOrder.MONO else draw(5, 7, len(order.value) - 1)
    fields = encode_image_fields(image, order)
    assert (fields['encoding'], fields['height'], fields['width']) == (order.value, 5, 7)
    assert fields['step'] == image[0].size
    assert fields['is_bigendian'] == 0
    assert isinstance(fields['data'], array.array)
    assert fields['data'].typecode == 'B'
    decoded = decode_image(SimpleNamespace(**fields))
    assert decoded.order is order
    np.testing.assert_array_equal(decoded.pixels, image)


def test_encoding_takes_strided_images() -> None:
    image = draw(6, 8)[::2, ::-1]
    np.testing.assert_array_equal(decode_image(SimpleNamespace(**encode_image_fields(image))).pixels, image)


@pytest.mark.parametrize(
    ('image', 'order'),
    [
        (np.zeros((4, 4, 3), np.float32), PixelOrder.RGB),
        (np.zeros((4, 4, 4), np.uint8), PixelOrder.RGB),
        (np.zeros((4, 4, 3), np.uint8), PixelOrder.MONO),
        (np.zeros(4, np.uint8), PixelOrder.RGB),
        (np.zeros((1, 4, 4, 3), np.uint8), PixelOrder.RGB),
    ],
)
def test_encoding_refuses_other_shapes(image: np.ndarray, order: PixelOrder) -> None:
    with pytest.raises(ShapeError, match='uint8'):
        encode_image_fields(image, order)


def test_jpeg_fields_round_trip_and_refuse_other_shapes() -> None:
    rgb = draw_smooth(20, 30)
    fields = encode_jpeg_fields(rgb, quality=95)
    assert fields['format'] == 'rgb8; jpeg compressed bgr8'
    assert np.abs(decode_compressed_image(SimpleNamespace(**fields)).to_rgb().astype(int) - rgb).mean() < 3
    assert len(encode_jpeg_fields(draw(40, 40), quality=10)['data']) < len(encode_jpeg_fields(draw(40, 40))['data'])
    for image in (rgb[..., 0], rgb.astype(np.float32), draw(4, 4, 4)):
        with pytest.raises(ShapeError):
            encode_jpeg_fields(image)


@pytest.mark.parametrize('store', [Stores.ROS1_NOETIC, Stores.ROS2_JAZZY])
def test_messages_of_rosbags(store: Stores) -> None:
    typestore = get_typestore(store)
    is_ros1 = store is Stores.ROS1_NOETIC
    stamp = typestore.types['builtin_interfaces/msg/Time'](sec=1, nanosec=2)
    sequence = {'seq': 0} if is_ros1 else {}
    header = typestore.types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera', **sequence)
    rgb = draw_smooth(9, 13)

    def transmit(name: str, fields: dict) -> object:
        fields = {**fields, 'data': np.frombuffer(fields['data'], np.uint8)}
        msg = typestore.types[name](header=header, **fields)
        if is_ros1:
            return typestore.deserialize_ros1(typestore.serialize_ros1(msg, name), name)
        return typestore.deserialize_cdr(typestore.serialize_cdr(msg, name), name)

    raw = decode_image(transmit('sensor_msgs/msg/Image', encode_image_fields(rgb)))
    np.testing.assert_array_equal(raw.to_rgb(), rgb)
    jpeg = decode_compressed_image(transmit('sensor_msgs/msg/CompressedImage', encode_jpeg_fields(rgb)))
    assert np.abs(jpeg.to_rgb().astype(int) - rgb).mean() < 4


@pytest.mark.ros
def test_messages_of_rclpy() -> None:
    messages = pytest.importorskip('sensor_msgs.msg')
    rgb = draw_smooth(9, 13)
    fields = encode_image_fields(rgb)
    msg = messages.Image()
    for field, value in fields.items():
        setattr(msg, field, value)
    assert msg.data == fields['data']
    decoded = decode_image(msg)
    assert np.shares_memory(decoded.pixels, np.frombuffer(msg.data, np.uint8))
    np.testing.assert_array_equal(decoded.to_rgb(), rgb)
    jpeg = decode_compressed_image(messages.CompressedImage(**encode_jpeg_fields(rgb)))
    assert np.abs(jpeg.to_rgb().astype(int) - rgb).mean() < 4
    with pytest.raises(ImageError) as caught:
        decode_image(messages.Image())
    assert caught.value.reason == 'zero_size'
    with pytest.raises(ImageError) as caught:
        decode_compressed_image(messages.CompressedImage())
    assert caught.value.reason == 'undecodable'


def test_decoded_image_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        DecodedImage(draw(2, 2), PixelOrder.RGB).order = PixelOrder.BGR
