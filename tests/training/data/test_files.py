"""Pictures of data sets: the pixels that the runtime sees, and no damaged ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import PIL.Image
import pytest

from perception.bag.frames import open_frames
from perception.errors import DatasetError
from perception.image_messages import decode_compressed_image, decode_picture
from perception.truth.index_maps import read_index_map
from tests.image_messages.drawn_pictures import add_exif, encode, exif_block
from tests.training.data.drawn_layouts import gradient_rgb
from training.data.files import name_images, read_image


@pytest.fixture(params=[3, 1], ids=['colour', 'grey'])
def jpeg(request: pytest.FixtureRequest) -> bytes:
    noise = np.random.default_rng(0).integers(0, 60, (60, 90, 3)).astype(np.uint8)
    picture = gradient_rgb(image_hw=(60, 90)) // 2 + noise
    return cv2.imencode('.jpg', picture if request.param == 3 else picture[:, :, 0])[1].tobytes()


@pytest.mark.filterwarnings('error')
def test_a_jpeg_has_the_pixels_that_the_runtime_decodes(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'picture.jpg'
    path.write_bytes(jpeg)
    image = read_image(path)
    pixels = image.permute(1, 2, 0).numpy()
    assert pixels.shape == (60, 90, 3)
    assert pixels.flags['C_CONTIGUOUS']
    assert np.array_equal(pixels, decode_picture(jpeg).to_rgb())
    assert np.array_equal(pixels, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))


def test_what_a_phone_writes_behind_the_picture_is_no_damage(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'picture.jpg'
    for behind in (b'depth map', jpeg, bytes(100)):
        path.write_bytes(jpeg + behind)
        assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), decode_picture(jpeg).to_rgb())


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_jpeg_is_named(jpeg: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / 'picture.jpg'
    cut = jpeg[: int(share * len(jpeg))]
    for content in (cut, cut + bytes(len(jpeg) - len(cut)), cut + b'\xff\xd9'):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r'picture\.jpg cannot be decoded') as caught:
            read_image(path)
        assert "(format 'jpeg')" in str(caught.value), 'the name of a file is no format'


def test_a_png_has_the_pixels_that_opencv_reads(tmp_path: Path) -> None:
    path = tmp_path / 'picture.jpg'  # the bytes count, not the name
    rgb = gradient_rgb()
    deep = rgb.astype(np.uint16) * 255 + 7
    for stored in (rgb, rgb[..., 0], deep, deep[..., 0], np.dstack((rgb, rgb[..., :1]))):
        content = encode('.png', stored)
        for behind in (b'', b'more'):
            path.write_bytes(content + behind)
            assert np.array_equal(read_image(path).permute(1, 2, 0), cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
        path.write_bytes(content[:-40])
        with pytest.raises(DatasetError, match=r'picture\.jpg cannot be decoded'):
            read_image(path)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_training_replay_and_node_see_a_turned_picture_alike(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / f'picture{kind}'
    picture = add_exif(encode(kind, gradient_rgb()), exif_block(orientation))
    path.write_bytes(picture)
    trained = read_image(path).permute(1, 2, 0).numpy()
    assert np.array_equal(trained, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)), 'OpenCV turns by itself'
    assert np.array_equal(trained, next(iter(open_frames(path))).image_rgb)
    message = SimpleNamespace(format='jpeg', data=picture)
    assert np.array_equal(trained, decode_compressed_image(message).to_rgb())


def test_kinds_that_only_training_reads_are_turned(tmp_path: Path) -> None:
    for kind, options in (('webp', {'lossless': True, 'exif': exif_block(6)}), ('tiff', {'tiffinfo': {0x0112: 6}})):
        path = tmp_path / f'picture.{kind}'
        PIL.Image.fromarray(gradient_rgb()).save(path, **options)
        assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), np.rot90(gradient_rgb(), -1))


@pytest.mark.parametrize('content', [b'', b'text', b'GIF89a'])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'picture.png').write_bytes(content)
    for read in (read_image, read_index_map):
        with pytest.raises(DatasetError, match=r'picture\.png cannot be decoded'):
            read(tmp_path / 'picture.png')


def test_a_jpeg_is_no_annotation(jpeg: bytes, tmp_path: Path) -> None:
    (tmp_path / 'mask.png').write_bytes(jpeg)
    with pytest.raises(DatasetError, match=r'mask\.png is a JPEG, which changes the ids.*save annotations as PNG'):
        read_index_map(tmp_path / 'mask.png')


def test_images_are_named_from_the_folder_that_all_lie_in() -> None:
    def names(*files: str, ending: str = '') -> list[str]:
        return name_images([Path('data') / file for file in files], ending)

    assert names('test/1.jpg', 'test/2.v2.png') == ['1', '2.v2']
    assert names('val/a/1_left.png', 'val/b/1_left.png', ending='_left') == ['a/1', 'b/1']
    assert names('1.jpg', '1.png', 'a/2.png') == ['1.jpg', '1.png', 'a/2']
    assert name_images([]) == []
