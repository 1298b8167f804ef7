"""COCO files as tools write them: read rightly, or refused with the file and the entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perception.errors import ConfigError, DatasetError
from perception.interfaces import GroundTruth
from perception.labels import CITYSCAPES_11_3
from perception.truth import CocoAnnotations
from perception.truth.index_maps import ImageSize

HW = (40, 64)
CLASSES = [label.name for label in CITYSCAPES_11_3.detection]


def box(number: int = 0, **changes: Any) -> dict[str, Any]:
    entry = {'id': number, 'image_id': 7, 'category_id': 1, 'bbox': [4 + number, 5, 20, 10], 'iscrowd': 0}
    return {key: value for key, value in {**entry, **changes}.items() if value is not ...}


def image(number: int = 7, **changes: Any) -> dict[str, Any]:
    return {'id': number, 'file_name': f'{number}.jpg', 'height': HW[0], 'width': HW[1], **changes}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / 'boxes.json'


def write(file: Path, *annotations: object, images: object = None, categories: object = None) -> Path:
    content = {
        'images': [image()] if images is None else images,
        'categories': [{'id': 1, 'name': 'car'}] if categories is None else categories,
        'annotations': list(annotations),
    }
    file.write_text(json.dumps(content))
    return file


def read(file: Path, number: int = 7) -> GroundTruth:
    return CocoAnnotations(file).images[number].read(ImageSize('the image', HW))


def counted(file: Path) -> tuple[int, int]:
    """How many objects and how many ignored regions."""
    truth = read(file)
    assert truth.labels is not None
    assert truth.ignore_boxes_xyxy is not None
    return len(truth.labels), len(truth.ignore_boxes_xyxy)


@pytest.mark.parametrize('no', [0, '0', False, 'false', 'False', 0.0, None, ...], ids=str)
def test_what_is_no_crowd_is_an_object(file: Path, no: object) -> None:
    assert counted(write(file, box(iscrowd=no))) == (1, 0)


@pytest.mark.parametrize('yes', [1, '1', True, 'true', ' True ', 1.0], ids=str)
def test_a_crowd_is_ignored(file: Path, yes: object) -> None:
    assert counted(write(file, box(iscrowd=yes))) == (0, 1)


@pytest.mark.parametrize('other', ['no', '', 2, 0.5, [], {}], ids=str)
def test_what_may_or_may_not_be_a_crowd_is_refused(file: Path, other: object) -> None:
    with pytest.raises(DatasetError, match=r'boxes\.json: annotation 0 has iscrowd .*; expected 0 or 1'):
        read(write(file, box(iscrowd=other)))


def test_categories_of_one_name_are_one_class(file: Path) -> None:
    categories = [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'person'}, {'id': 3, 'name': 'car'}]
    truth = read(write(file, box(0), box(1, category_id=2), box(2, category_id=3), categories=categories))
    assert truth.labels is not None
    assert [CLASSES[label] for label in truth.labels] == ['car/truck/bus', 'person/rider', 'car/truck/bus']


def test_one_id_with_two_names_is_refused(file: Path) -> None:
    same = {'id': 1, 'name': 'car'}
    assert counted(write(file, box(), categories=[same, same])) == (1, 0)
    with pytest.raises(DatasetError, match=r"boxes\.json: category 1 is 'person', and 'car' before; expected one name"):
        read(write(file, box(), categories=[same, {'id': '1', 'name': 'person'}]))


def test_one_picture_under_two_ids_is_refused(file: Path) -> None:
    images = [image(7), image(8, file_name='./7.jpg')]
    with pytest.raises(DatasetError, match=r"boxes\.json: image 8 has file_name './7\.jpg', as image 7 has"):
        read(write(file, box(), images=images))
    assert read(write(file, images=[image(7), image(8, file_name='b/7.jpg')]), 8).mask is None


def test_boxes_in_shares_of_the_image_are_refused_with_the_cause(file: Path) -> None:
    shares = [box(number, bbox=[0.1 * number, 0.2, 0.3, 0.4]) for number in range(4)]
    expected = r'annotation 1 has bbox \[0\.1, .*; it and 2 more of 3 boxes .* look like shares of its width and height'
    with pytest.raises(DatasetError, match=rf'boxes\.json: {expected}'):
        read(write(file, *shares[1:]))
    with pytest.raises(DatasetError, match='it and 3 more of 8 boxes'):  # two exports joined
        read(write(file, *shares, *(box(number) for number in range(4, 8))))
    with pytest.raises(DatasetError, match='look like shares'):
        read(write(file, box(bbox=[0, 0, 1, 1])))


def test_a_sliver_in_the_corner_is_no_share_and_a_point_no_box(file: Path) -> None:
    many = [box(number, bbox=[number % 40, 5, 20, 10]) for number in range(1, 120)]
    assert counted(write(file, box(0, bbox=[0, 0, 0.5, 0.7]), *many)) == (120, 0)
    assert counted(write(file, box(0, bbox=[0, 0, 0, 0]))) == (0, 0)


def test_an_annotation_that_is_there_twice_is_refused(file: Path) -> None:
    with pytest.raises(DatasetError, match=r'boxes\.json: annotation 3 is there twice, with one image'):
        read(write(file, box(3), box(3)))
    assert counted(write(file, box(3), box(3, bbox=[1, 2, 3, 4]))) == (2, 0), 'joined files begin to count anew'


def test_whoever_changes_what_was_read_changes_nothing_for_others(file: Path) -> None:
    one = CocoAnnotations(write(file, box())).images[7]
    first = one.read(ImageSize('the image', HW)).boxes_xyxy
    assert first is not None
    first[:] = 0
    second = one.read(ImageSize('the image', HW)).boxes_xyxy
    assert second is not None
    assert second.tolist() == [[4, 5, 24, 15]]


def test_numbers_may_be_text(file: Path) -> None:
    entry = box(image_id='7', category_id='1', bbox=['4', '5.5', '20', '10'])
    truth = read(write(file, entry, images=[image(file_name='a.jpg', height='40', width=64.0)]))
    assert truth.boxes_xyxy is not None
    assert truth.boxes_xyxy.tolist() == [[4, 5.5, 24, 15.5]]


@pytest.mark.parametrize(
    ('entry', 'said'),
    [
        (box(bbox='1234'), "has bbox '1234'; expected four finite numbers"),
        (box(bbox=[1, 2, 3]), r'has bbox \[1, 2, 3\]; expected four'),
        (box(bbox=[1, 2, 3, 4, 5]), '.*; expected four finite'),
        (box(bbox=[1, 2, 'wide', 4]), '.*; expected four finite'),
        (box(bbox=[1, 2, 'nan', 4]), '.*; expected four finite'),
        (box(bbox=[1, 2, float('nan'), 4]), '.*; expected four finite'),
        (box(bbox=[True, 2, 3, 4]), '.*; expected four finite'),
        (box(bbox={'x': 1, 'y': 2, 'w': 3, 'h': 4}), '.*; expected four finite'),
        (box(bbox=[]), '.*; expected four finite'),
        (box(bbox=..., segmentation=[[1, 2, 3, 4, 5, 6]]), 'has no bbox; expected four finite'),
        (box(category_id=1.5), r'has category_id 1\.5; expected an integer'),
        (box(image_id=True), 'has image_id True; expected an integer'),
        (box(image_id=99), 'names image 99, which the file does not list; expected one of 7'),
    ],
    ids=str,
)
def test_what_is_no_annotation_is_refused(file: Path, entry: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=rf'boxes\.json: annotation 0 {said}'):
        read(write(file, entry))


@pytest.mark.parametrize(
    'changes', [{'height': 0}, {'width': -64}, {'width': 1.5}, {'file_name': ''}, {'file_name': '.'}, {'id': None}]
)
def test_what_is_no_image_is_refused(file: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=rf'boxes\.json: image .* has {next(iter(changes))} .*; expected'):
        read(write(file, images=[image(**changes)]))


def test_crowds_are_clipped_and_refused_like_objects(file: Path) -> None:
    truth = read(write(file, box(iscrowd=1, bbox=[50, 30, 100, 100])))
    assert truth.ignore_boxes_xyxy is not None
    assert truth.ignore_boxes_xyxy.tolist() == [[50, 30, 64, 40]]
    with pytest.raises(DatasetError, match=r'annotation 0 has bbox .*, wholly outside of its image'):
        read(write(file, box(iscrowd=1, bbox=[500, 500, 60, 40])))


def test_without_a_table_the_usual_names_of_the_file_are_used(file: Path) -> None:
    names = ('two_wheeler', 'zebra', 'person', 'car/truck/bus')
    categories = [{'id': number, 'name': name} for number, name in enumerate(names)]
    annotations = CocoAnnotations(write(file, *(box(n, category_id=n) for n in range(4)), categories=categories))
    assert list(annotations.classes) == ['two_wheeler', 'person', 'car/truck/bus']
    assert annotations.left_out == ('zebra',)
    truth = annotations.images[7].read(ImageSize('the image', HW))
    assert truth.labels is not None
    assert truth.labels.tolist() == [2, 1, 0]


def test_a_table_that_does_not_fit_says_which_option_to_give(file: Path) -> None:
    write(file, box(), categories=[{'id': 1, 'name': 'van'}, {'id': 2, 'name': 'walker'}])
    with pytest.raises(
        DatasetError, match=r'categories van, walker, and no usual one among them\. .*--truth-classes.*\{"van": "car'
    ):
        CocoAnnotations(file)
    with pytest.raises(ConfigError, match=r"has no category 'truck': known are van, walker\. Say with classes"):
        CocoAnnotations(file, classes={'truck': 'car/truck/bus'})
    assert list(CocoAnnotations(file, classes={'van': 'car/truck/bus'}).classes) == ['van']


def test_a_file_that_an_editor_on_windows_saved_is_read(file: Path) -> None:
    write(file, box())
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    assert counted(file) == (1, 0)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'Cannot read .*none\.json: No such file'):
        CocoAnnotations(tmp_path / 'none.json')


CORNERS = [[4, 5, 30, 35], [10, 2, 60, 20], [40, 20, 63, 39], [1, 1, 20, 20], [30, 8, 50, 30]]


def test_boxes_as_corners_are_told(file: Path) -> None:
    entries = [box(number, bbox=corners) for number, corners in enumerate(CORNERS)]
    said = r'annotation 1 has bbox \[10, 2, 60, 20\]; it and 2 more of 5 boxes reach over the border .* as corners'
    with pytest.raises(DatasetError, match=said):
        read(write(file, *entries))
    # One that would be no corner tells that they are sizes; then they are clipped.
    assert counted(write(file, *entries, box(9, bbox=[50, 20, 10, 10]))) == (6, 0)


def test_boxes_without_an_area_are_left_out_with_a_word(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert counted(write(file, box(0), box(1, bbox=[10, 10, 0, 5]))) == (1, 0)
    assert '1 boxes without an area are left out, such as' in caplog.text
    assert 'annotation 1 has bbox [10, 10, 0, 5]' in caplog.text


def test_folders_as_on_windows_are_ours(file: Path) -> None:
    annotations = CocoAnnotations(write(file, box(), images=[image(file_name='photos\\day 1\\7.jpg')]), Path('root'))
    assert annotations.images[7].path == Path('root/photos/day 1/7.jpg')
