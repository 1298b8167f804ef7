"""Pictures of data sets: the pixels that the runtime sees, and no damaged ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.errors import DatasetError
from perception.image_messages import decode_picture
from perception.truth.index_maps import read_index_map
from tests.training.data.drawn_layouts import gradient_rgb
from training.data.files import list_names, read_image


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


def test_a_list_of_names_says_how_many_it_leaves_out() -> None:
    assert list_names([]) == 'nothing'
    assert list_names(list('abcdefgh')) == 'a, b, c, d, e, f, g, h'
    assert list_names(list('abcdefghij')) == 'a, b, c, d, e, f, g, h and 2 more'


def test_a_png_is_read_by_opencv(tmp_path: Path) -> None:
    path = tmp_path / 'picture.jpg'  # the bytes count, not the name
    content = cv2.imencode('.png', cv2.cvtColor(gradient_rgb(), cv2.COLOR_RGB2BGR))[1].tobytes()
    path.write_bytes(content)
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), gradient_rgb())
    path.write_bytes(content[:-40])
    with pytest.raises(DatasetError, match=r'picture\.jpg cannot be decoded'):
        read_image(path)


def test_a_jpeg_is_no_annotation(jpeg: bytes, tmp_path: Path) -> None:
    (tmp_path / 'mask.png').write_bytes(jpeg)
    with pytest.raises(DatasetError, match=r'mask\.png is a JPEG, which changes the ids.*save annotations as PNG'):
        read_index_map(tmp_path / 'mask.png')
