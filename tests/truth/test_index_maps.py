"""Annotation pictures as other tools save them: with a palette, with few bits, with an orientation tag."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.errors import DatasetError
from perception.truth import CamVidAnnotations, CityscapesAnnotations
from perception.truth.index_maps import ImageSize, read_index_map
from tests.image_messages.drawn_pictures import add_exif, encode, exif_block, grey_png, palette_png

IDS = np.arange(12, dtype=np.uint8).repeat(6).reshape(6, 12)


def test_a_palette_changes_no_truth(tmp_path: Path) -> None:
    """VOC, labelme and Mapillary save masks so; 255 is the border of VOC's objects."""
    ids = np.where(IDS == 11, np.uint8(255), IDS)
    size = ImageSize('image', (6, 12))
    read = {}
    for name, content in {'grey': encode('.png', ids), 'palette': palette_png(ids)}.items():
        (tmp_path / f'{name}.png').write_bytes(content)
        read[name] = CamVidAnnotations().read(tmp_path / f'{name}.png', size)
    assert (read['palette'].mask == read['grey'].mask).all()
    assert read['palette'].boxes_xyxy.tolist() == read['grey'].boxes_xyxy.tolist()
    assert (read['palette'].mask[ids == 255] == 255).all()


def test_ids_of_cityscapes_may_have_a_palette(tmp_path: Path) -> None:
    path, size = tmp_path / 'a_gtFine_labelIds.png', ImageSize('image', (6, 12))
    path.write_bytes(encode('.png', IDS + 20))
    grey = CityscapesAnnotations(boxes=False).read(path, size).mask
    path.write_bytes(palette_png(IDS + 20))
    assert (CityscapesAnnotations(boxes=False).read(path, size).mask == grey).all()


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('write', [palette_png, grey_png])
def test_few_bits_are_ids_and_not_stretched(tmp_path: Path, write, bits: int) -> None:
    ids = IDS & (2**bits - 1)
    (tmp_path / 'mask.png').write_bytes(write(ids, bits))
    assert (read_index_map(tmp_path / 'mask.png') == ids).all()


def test_a_mask_is_turned_as_its_tag_says(tmp_path: Path) -> None:
    (tmp_path / 'mask.png').write_bytes(add_exif(palette_png(IDS), exif_block(8)))
    assert (read_index_map(tmp_path / 'mask.png') == np.rot90(IDS)).all()


@pytest.mark.parametrize('colours', [np.dstack([IDS] * 3), np.dstack((IDS, IDS * 2, IDS * 3))], ids=['grey', 'colour'])
def test_colours_are_refused_and_the_file_is_named(tmp_path: Path, colours: np.ndarray) -> None:
    (tmp_path / 'mask.png').write_bytes(encode('.png', colours))
    with pytest.raises(DatasetError, match=r'mask\.png holds no ids\. A PNG with colours came; expected one channel'):
        read_index_map(tmp_path / 'mask.png')


def test_damage_is_said_as_damage(tmp_path: Path) -> None:
    png = palette_png(IDS)
    for content in (png[:-30], png.replace(b'IDAT', b'JDAT')):
        (tmp_path / 'mask.png').write_bytes(content)
        with pytest.raises(DatasetError, match=r'mask\.png cannot be decoded; it is truncated, damaged'):
            read_index_map(tmp_path / 'mask.png')


def test_other_lossless_kinds_stay_readable(tmp_path: Path) -> None:
    for kind in ('.bmp', '.pgm', '.tiff'):
        (tmp_path / f'mask{kind}').write_bytes(encode(kind, IDS))
        assert (read_index_map(tmp_path / f'mask{kind}') == IDS).all()
    cv2.imwrite(str(tmp_path / 'mask.bmp'), np.dstack((IDS, IDS * 2, IDS)))
    with pytest.raises(DatasetError, match=r'mask\.bmp .* expected one channel of uint8 ids'):
        read_index_map(tmp_path / 'mask.bmp')
