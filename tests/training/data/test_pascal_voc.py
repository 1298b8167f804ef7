"""The Pascal VOC reader on a hand-made devkit, and on real files where they lie beside the checkout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perception.errors import ConfigError, DatasetError
from perception.interfaces import LabelSpace
from perception.labels import load_label_space
from tests.training.data.drawn_layouts import draw_voc, gradient_rgb, voc_xml, write_picture, write_text
from training.data.pascal_voc import PascalVoc

VOC = load_label_space('voc_21_20')
_SAMPLES = Path(__file__).resolve().parents[3].parent / 'shared' / 'data' / 'voc_coco_samples' / 'labelme' / 'examples'


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOC2012 with three images, VOC2007 with two."""
    draw_voc(tmp_path / 'VOCdevkit' / 'VOC2012')
    draw_voc(tmp_path / 'VOCdevkit' / 'VOC2007', frames=2)
    return tmp_path


def read(root: Path, split: str = 'train', years: tuple[int, ...] = (2012,), **options: object) -> PascalVoc:
    return PascalVoc(root, split, labels=VOC, years=years, **options)  # type: ignore[arg-type]


def test_a_sample_has_its_objects_and_its_mask(devkit: Path) -> None:
    dataset = read(devkit)
    sample = dataset[0]
    assert sample.boxes is not None
    assert sample.labels is not None
    assert sample.mask is not None
    assert sample.ignore_labels is not None
    detection, areas = ([label.name for label in classes] for classes in (VOC.detection, VOC.segmentation))
    assert sample.boxes.tolist() == [[4, 5, 24, 15], [50, 20, 64, 30], [8, 8, 9, 9]]
    assert [detection[label] for label in sample.labels] == ['car', 'person', 'dog']
    assert (sample.ignore_boxes.tolist(), detection[sample.ignore_labels[0]]) == ([[0, 30, 12, 38]], 'bus')
    assert [areas[sample.mask[row, column]] for row, column in ((0, 0), (7, 7), (25, 60))] == [
        'background',
        'car',
        'person',
    ]
    assert sample.mask[7, 24] == 255
    assert (dataset.name, dataset.remark) == ('voc-train', 'VOC2012')


def test_of_the_main_lists_some_images_have_masks(devkit: Path) -> None:
    assert [sample.mask is None for sample in read(devkit)] == [False, True, False]
    assert [sample.mask for sample in read(devkit, masks=None)] == [None] * 3
    shutil.rmtree(devkit / 'VOCdevkit/VOC2012/SegmentationClass')
    assert [sample.mask for sample in read(devkit)] == [None] * 3


def test_of_other_lists_all_images_have(devkit: Path) -> None:
    dataset = read(devkit, image_set='Segmentation')
    assert [sample.name for sample in dataset] == ['voc-train/2012_000000', 'voc-train/2012_000002']
    assert dataset.remark == 'VOC2012 and Segmentation'
    (devkit / 'VOCdevkit/VOC2012/SegmentationClass/2012_000002.png').unlink()
    with pytest.raises(DatasetError, match=r'SegmentationClass/2012_000002\.png is missing \(1 of 2'):
        read(devkit, image_set='Segmentation')
    assert len(read(devkit, image_set='Segmentation', masks=None)) == 2


def test_years_count_together(devkit: Path) -> None:
    dataset = read(devkit, years=(2007, 2012))
    assert [sample.name for sample in dataset] == [
        *(f'voc-train/VOC2007/JPEGImages/2012_00000{number}' for number in range(2)),
        *(f'voc-train/VOC2012/JPEGImages/2012_00000{number}' for number in range(3)),
    ]
    assert dataset.remark == 'VOC2007 and VOC2012'
    assert dataset.fingerprint() != read(devkit, years=(2012,)).fingerprint()
    assert len(read(devkit / 'VOCdevkit', years=(2007,))) == 2, 'the folder of the devkit is a root, too'


def test_years_are_not_guessed(devkit: Path) -> None:
    with pytest.raises(ConfigError, match=r'holds VOC2007, VOC2012; say .* \{"years": \[2007, 2012\]\}'):
        read(devkit, years=())
    with pytest.raises(ConfigError, match='names one twice'):
        read(devkit, years=(2007, 2007))
    with pytest.raises(DatasetError, match=r'VOC2010 is missing; .* holds VOC2007, VOC2012. Check root and the option'):
        read(devkit, years=(2010,))


def test_masks_that_were_added_lie_in_a_folder_of_their_own(devkit: Path) -> None:
    home = devkit / 'VOCdevkit' / 'VOC2012'
    with pytest.raises(DatasetError, match=r'SegmentationClassAug is missing; .*Check root and the option masks'):
        read(devkit, masks='SegmentationClassAug')
    (home / 'SegmentationClass').rename(home / 'SegmentationClassAug')
    # The list of DeepLab's authors names picture and mask.
    lines = (f'/JPEGImages/2012_00000{n}.jpg /SegmentationClassAug/2012_00000{n}.png' for n in (0, 2))
    write_text(home / 'ImageSets/Segmentation/trainaug.txt', '\n'.join(lines))
    dataset = read(devkit, 'trainaug', image_set='Segmentation', masks='SegmentationClassAug')
    assert [sample.mask is None for sample in dataset] == [False, False]


def test_a_split_that_is_withheld_is_not_annotated(devkit: Path) -> None:
    home = devkit / 'VOCdevkit' / 'VOC2012'
    shutil.rmtree(home / 'SegmentationClass')
    (home / 'Annotations/2012_000001.xml').unlink()
    with pytest.raises(DatasetError, match=r'Annotations/2012_000001\.xml is missing \(1 of 3'):
        read(devkit)
    assert read(devkit, boxes=False)[1].boxes is None
    shutil.rmtree(home / 'Annotations')
    assert [(sample.boxes, sample.labels, sample.mask) for sample in read(devkit)] == [(None, None, None)] * 3


def test_lists_that_cannot_be_meant_are_named(devkit: Path) -> None:
    path = devkit / 'VOCdevkit/VOC2012/ImageSets/Main/own.txt'
    for text, said in (
        ('', 'lists no images'),
        ('2012_000000\n2012_000000\n', 'lists 2012_000000 twice'),
        ('2012_000000  1\n2012_000001 -1\n', r"has the line '2012_000000  1'; .*dog_train\.txt, say of all images"),
        ('2012_000009\n', r'neither .*2012_000009\.jpg nor 2012_000009\.png exists \(1 of 1'),
    ):
        write_text(path, text)
        with pytest.raises(DatasetError, match=said):
            read(devkit, 'own')


def test_names_may_have_dots_and_spaces(tmp_path: Path) -> None:
    for name in ('a.b', 'my photo 1'):
        write_picture(tmp_path / f'JPEGImages/{name}.jpg', gradient_rgb())
        write_text(tmp_path / f'Annotations/{name}.xml', voc_xml(('car', 0, 5, 6, 24, 15)))
    write_text(tmp_path / 'ImageSets/Main/train.txt', '\ufeffa.b\r\n\r\nmy photo 1.jpg\r\n')
    assert [sample.name for sample in read(tmp_path, years=())] == ['voc-train/a.b', 'voc-train/my photo 1']


def test_a_checkpoint_of_other_classes_is_told_of_both(devkit: Path) -> None:
    labels = LabelSpace(name='yard', segmentation=VOC.segmentation[:1], detection=VOC.detection[:2])
    with pytest.raises(
        ConfigError,
        match=r"layout 'voc' has usual tables for the label spaces cityscapes_11_3, voc_21_20, and none for 'yard' "
        r'\(areas background; objects aeroplane, bicycle\)',
    ):
        PascalVoc(devkit, 'train', labels=labels, years=(2012,))


@pytest.mark.parametrize('files', ['Annotations', 'SegmentationClass'])
def test_the_fingerprint_follows_annotation_and_options(devkit: Path, files: str) -> None:
    before = read(devkit).fingerprint()
    assert read(devkit, first_pixel=0).fingerprint() != before
    path = next((devkit / 'VOCdevkit/VOC2012' / files).iterdir())
    path.write_bytes(path.read_bytes() + b'\n')
    assert read(devkit).fingerprint() != before


@pytest.mark.skipif(not _SAMPLES.is_dir(), reason='not beside the checkout: ../shared/data/voc_coco_samples')
def test_real_files_of_labelme_are_read(tmp_path: Path) -> None:
    for task, folder in (('bbox_detection', 'Annotations'), ('instance_segmentation', 'SegmentationClass')):
        home = _SAMPLES / task / 'data_dataset_voc'
        for part in (folder, 'JPEGImages'):
            shutil.copytree(home / part, tmp_path / part, dirs_exist_ok=True)
    write_text(tmp_path / 'ImageSets/Main/all.txt', '2011_000003\n2011_000006\n2011_000025\n')
    samples = list(read(tmp_path, 'all', years=(), first_pixel=0))
    assert [len(sample.labels) for sample in samples if sample.labels is not None] == [2, 4, 3]
    assert samples[0].boxes is not None
    assert samples[0].boxes[0].tolist() == pytest.approx([191, 107.369, 313, 329.369], abs=1e-3)
    assert [sorted(sample.mask.unique().tolist()) for sample in samples if sample.mask is not None] == [
        [0, 5, 15, 255],
        [0, 9, 15, 18, 255],
        [0, 6, 7],
    ]
