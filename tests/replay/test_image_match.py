"""Which annotation an image is scored on: equal names never take another's, and what stays unclear is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perception.bag.frames import list_images, open_frames
from perception.bag.labelled import open_labelled
from perception.errors import DatasetError
from perception.labels import CITYSCAPES_11_3
from perception.replay.image_match import match_images
from perception.replay.truth import TruthSource, open_truth
from tests.training.data.drawn_layouts import HW, coco_content, draw_camvid, write_json, write_picture

ROAD, SKY = 7, 23


def draw(path: Path, value: int = 0) -> None:
    write_picture(path, np.full(HW, value, np.uint8))


@pytest.fixture
def cities(tmp_path: Path) -> Path:
    """Two cities with equal names, one all road, one all sky; and an image without annotation."""
    root = tmp_path / 'data'
    for city, ids in (('a', ROAD), ('b', SKY)):
        draw(root / f'leftImg8bit/val/{city}/000000_leftImg8bit.png')
        draw(root / f'gtFine/val/{city}/000000_gtFine_labelIds.png', ids)
    draw(root / 'gtFine/val/a/000001_gtFine_labelIds.png', ROAD)
    draw(root / 'leftImg8bit/val/b/000001_leftImg8bit.png')
    return root


def truth_of(images: Path, root: Path, **options: object) -> TruthSource:
    return open_truth(str(root), open_frames(images), CITYSCAPES_11_3, **options)  # type: ignore[arg-type]


def classes(images: Path, root: Path) -> list[int | None]:
    """The class that each frame's first pixel is scored on."""
    source, truth = open_frames(images), truth_of(images, root)
    found = [truth.of(position, frame) for position, frame in enumerate(source)]
    return [None if known is None or known.mask is None else int(known.mask[0, 0]) for known in found]


def copy(source: Path, target: Path) -> Path:
    for image in source.iterdir():
        target.mkdir(parents=True, exist_ok=True)
        (target / image.name).write_bytes(image.read_bytes())
    return target


def link(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for number, image in enumerate(sorted(source.iterdir())):
        (target / f'{number}.png').symlink_to(image)
    return target


@pytest.mark.parametrize('place', [lambda images, _: images, copy, link], ids=['beside', 'copied', 'linked'])
def test_each_city_is_scored_on_its_own(cities: Path, tmp_path: Path, place: Callable[[Path, Path], Path]) -> None:
    images = cities / 'leftImg8bit' / 'val'
    assert classes(place(images / 'a', tmp_path / 'x' / 'a'), cities) == [0]
    # The second has no annotation, though one of its name lies in the other city.
    assert classes(place(images / 'b', tmp_path / 'x' / 'b'), cities) == [4, None]


def test_annotations_of_the_other_city_are_not_missed(cities: Path) -> None:
    images = cities / 'leftImg8bit' / 'val'
    for city, unmatched in (('a', 1), ('b', 0)):
        source, truth = open_frames(images / city), truth_of(images / city, cities)
        for position, frame in enumerate(source):
            truth.of(position, frame)
        assert truth.balance(whole=True).unmatched == unmatched


def test_names_that_two_annotations_have_are_refused_elsewhere(cities: Path, tmp_path: Path) -> None:
    images = copy(cities / 'leftImg8bit' / 'val' / 'a', tmp_path / 'photos')
    with pytest.raises(DatasetError, match=r'000000_leftImg8bit\.png may belong to .*/a/000000_.*or to .*/b/000000_'):
        truth_of(images, cities)
    (cities / 'gtFine/val/b/000000_gtFine_labelIds.png').unlink()
    assert classes(images, cities) == [0], 'a name that one annotation has is enough'


def test_of_folders_in_folders_the_nearest_counts(tmp_path: Path) -> None:
    for folder, ids in (('x/day', 3), ('y/day', 4)):
        draw(tmp_path / f'data/testannot/{folder}/1.png', ids)
        draw(tmp_path / f'photos/{folder}/1.png')
    root = tmp_path / 'data'
    assert [classes(tmp_path / 'photos' / name / 'day', root) for name in ('x', 'y')] == [[0], [7]]
    draw(tmp_path / 'day/1.png')
    with pytest.raises(DatasetError, match=r'day/1\.png may belong to .*x/day/1\.png or to .*y/day/1\.png'):
        truth_of(tmp_path / 'day', root)


def test_one_annotation_is_not_of_two_images(tmp_path: Path) -> None:
    draw_camvid(tmp_path, 'test', 2)
    images = tmp_path / 'test'
    first = list_images(images)[0]
    first.with_suffix('.jpg').write_bytes(first.read_bytes())
    with pytest.raises(
        DatasetError, match=rf'{first.stem}\.(jpg|png) and .*{first.stem}\.(jpg|png) have one annotation'
    ):
        truth_of(images, tmp_path)


def test_images_of_another_split_are_not_scored_on_this_one(tmp_path: Path) -> None:
    for split in ('val', 'test'):
        draw_camvid(tmp_path, split, 2)
    with pytest.raises(DatasetError, match=r"images of split 'test', .* those of 'val'\. Give --truth-split test"):
        truth_of(tmp_path / 'test', tmp_path, split='val')
    copies = copy(tmp_path / 'test', tmp_path / 'val_in_fog')
    assert truth_of(copies, tmp_path, split='val').description.startswith('camvid val by name')
    assert truth_of(tmp_path / 'test', tmp_path, split='val', match='order').description.startswith(
        'camvid val by order'
    )


def test_names_may_have_dots(tmp_path: Path) -> None:
    for name, ids in (('0001.v2', 3), ('0001', 4)):
        draw(tmp_path / f'data/testannot/{name}.png', ids)
        draw(tmp_path / f'photos/{name}.png')
    assert sorted(classes(tmp_path / 'photos', tmp_path / 'data'), key=str) == [0, 7]
    (tmp_path / 'data/testannot/0001.png').unlink()
    assert sorted(classes(tmp_path / 'photos', tmp_path / 'data'), key=str) == [0, None]


def test_file_names_of_coco_keep_their_folders(tmp_path: Path) -> None:
    content = coco_content(2, ('car', 'person', 'bicycle'))
    for entry, name in zip(content['images'], ('a/1.png', 'b/1.png'), strict=True):
        entry['file_name'] = name
        draw(tmp_path / 'elsewhere' / name)
    content['annotations'] = [entry for entry in content['annotations'] if entry['image_id'] == 10]
    write_json(tmp_path / 'boxes.json', content)
    folder = open_labelled(tmp_path / 'boxes.json')
    for name, count in (('a', 2), ('b', 0)):
        source = open_frames(tmp_path / 'elsewhere' / name)
        truth = truth_of(tmp_path / 'elsewhere' / name, tmp_path / 'boxes.json').of(0, next(iter(source)))
        assert truth is not None
        assert truth.labels is not None
        assert len(truth.labels) == count
    draw(tmp_path / 'photos/1.png')
    with pytest.raises(DatasetError, match=r'may belong to .*boxes\.json \(a/1\) or to .*boxes\.json \(b/1\)'):
        match_images(folder, [tmp_path / 'photos/1.png'])


def test_images_that_a_coco_file_does_not_name_are_not_taken_by_order(tmp_path: Path) -> None:
    write_json(tmp_path / 'boxes.json', coco_content(1, ('car', 'person', 'bicycle')))
    draw(tmp_path / 'photos/other.png')
    with pytest.raises(
        DatasetError, match=r'boxes\.json names none of the images in .*photos: .*like other\.png, .*000'
    ):
        truth_of(tmp_path / 'photos', tmp_path / 'boxes.json')
    assert truth_of(tmp_path / 'photos', tmp_path / 'boxes.json', match='order').description.startswith(
        'coco boxes by o'
    )


def test_two_annotations_of_one_stamp_are_refused(cities: Path) -> None:
    for city in ('a', 'b'):
        for path in (cities / 'gtFine/val' / city).iterdir():
            path.unlink()
        draw(cities / f'gtFine/val/{city}/frame_1700000000100000000_gtFine_labelIds.png', ROAD)
    with pytest.raises(DatasetError, match=r'a/frame.* and .*b/frame.* end with one stamp, 1700000000100000000 ns'):
        truth_of(cities / 'leftImg8bit/val/a', cities, match='stamp')
