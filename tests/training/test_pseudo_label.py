"""Labels of a teacher, from the command to the batch: written, read back, refused where they are of something else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from perception.errors import ConfigError, DatasetError
from perception.interfaces import UNLABELLED, Detections
from perception.labels import CITYSCAPES_11_3, load_label_space
from training.configuration import DataConfig
from training.data import build_dataset
from training.data.taught import BOXES, MASKS, TEACHER, UNFINISHED, TaughtDataset, TeacherConfig
from training.label_journal import LabelJournal
from training.preparation import open_dataset
from training.pseudo_label import Labelled, label_images, main
from training.teachers import Answer, Views

HW = (24, 32)


class DrawnTeacher:
    """Sees one box of each kind, and road below the middle."""

    title, segments = 'drawn@0', True
    labels = CITYSCAPES_11_3

    def __call__(self, image_rgb: np.ndarray) -> Answer:
        height, width = image_rgb.shape[:2]
        boxes = np.array([[1, 2, 11, 12], [5, 5, 25, 20], [0, 0, 4, 8]], np.float32)
        mask, confidence = np.zeros((2, height, width), np.uint8)
        mask[: height // 2] = 4
        confidence[:, : width // 2] = 250
        detections = Detections(
            boxes_xyxy=boxes, scores=np.array([0.9, 0.2, 0.07], np.float32), labels=np.array([0, 1, 2])
        )
        return Answer(detections, mask, confidence)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two cities with a frame of the same name, in the layout of CamVid, all of it unlabelled."""
    root = tmp_path / 'frames'
    for number, city in enumerate(('a', 'b')):
        for folder, picture in (
            ('train', np.full((*HW, 3), 40 * number, np.uint8)),
            ('trainannot', np.zeros(HW, np.uint8)),
        ):
            (root / folder / city).mkdir(parents=True)
            assert cv2.imwrite(str(root / folder / city / '0.png'), picture)
    (root / 'train.txt').write_text('a/0\nb/0\n')
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The same pictures as COCO, with a box in the first one."""
    root = tmp_path / 'photos'
    images = []
    for number in (1, 2):
        (root / 'train2017').mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / 'train2017' / f'{number}.png'), np.full((*HW, 3), 90 * number, np.uint8))
        images.append({'id': number, 'file_name': f'{number}.png', 'height': HW[0], 'width': HW[1]})
    boxes = [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [2, 2, 9, 9]}]
    content = {'images': images, 'annotations': boxes, 'categories': [{'id': 1, 'name': 'car'}]}
    (root / 'boxes.json').write_text(json.dumps(content))
    return root


@pytest.fixture
def label(tmp_path: Path) -> Callable[[Path], Path]:
    def labels_of(images: Path) -> Path:
        output = tmp_path / 'labels'
        output.mkdir()
        assert label_images(DrawnTeacher(), images, output, Views(), show_progress=False).images == 2
        return output

    return labels_of


def camvid(root: Path, **options: Any) -> DataConfig:
    return DataConfig(name='camvid', root=str(root), options={'boxes': 'none'}, **options)


def test_frames_with_masks_get_boxes(frames: Path, label: Callable[[Path], Path]) -> None:
    teacher = TeacherConfig(labels=str(label(frames / 'train')), positive_from=0.5, ignore_from=0.1)
    dataset = open_dataset(camvid(frames, teacher=teacher), CITYSCAPES_11_3)
    assert len(dataset) == 2
    for sample in dataset:
        assert sample.boxes is not None
        assert sample.labels is not None
        assert sample.boxes.tolist() == [[1, 2, 11, 12]]
        assert sample.labels.tolist() == [0]
        assert sample.ignore_boxes.tolist() == [[5, 5, 25, 20]]
        assert sample.mask is not None
        assert (sample.mask == 4).all()  # its own: CamVid's 0 is sky
    assert 'what is not annotated is from drawn@0' in dataset.remark
    other = open_dataset(camvid(frames, teacher=TeacherConfig(labels=teacher.labels)), CITYSCAPES_11_3)
    assert other.fingerprint() != dataset.fingerprint()


def test_photos_with_boxes_get_masks(photos: Path, label: Callable[[Path], Path]) -> None:
    labels = label(photos)
    config = DataConfig(
        name='coco',
        root=str(photos),
        options={'annotations': 'boxes.json', 'classes': {'car': 'car/truck/bus'}},
        teacher=TeacherConfig(labels=str(labels)),
    )
    first, second = open_dataset(config, CITYSCAPES_11_3)
    assert first.boxes is not None
    assert second.boxes is not None
    assert first.boxes.tolist() == [[2, 2, 11, 11]]
    assert second.boxes.tolist() == []  # annotated: there is none
    for sample in (first, second):
        assert sample.mask is not None
        assert sample.mask[:12, :16].unique().tolist() == [4]
        assert sample.mask[12:, :16].unique().tolist() == [0]
        assert sample.mask[:, 16:].unique().tolist() == [UNLABELLED]


def test_the_record_says_who_and_of_what(frames: Path, label: Callable[[Path], Path]) -> None:
    labels = label(frames / 'train')
    record = json.loads((labels / TEACHER).read_text())
    assert record['teacher'] == 'drawn@0'
    assert record['images'].keys() == {'a/0.png', 'b/0.png'}
    boxes = json.loads((labels / BOXES).read_text())
    assert boxes['info']['teacher'] == 'drawn@0'
    assert [one['score'] for one in boxes['annotations']] == [0.9, 0.2, 0.07] * 2
    assert sorted(path.relative_to(labels / MASKS).as_posix() for path in (labels / MASKS).rglob('*.png')) == [
        'a/0.png',
        'b/0.png',
    ]


def test_boxes_with_scores_alone_are_a_data_set(frames: Path, label: Callable[[Path], Path]) -> None:
    labels = label(frames / 'train')
    options = {'annotations': str(labels / BOXES), 'images': 'train'}
    classes = {name: name for name in ('car/truck/bus', 'person/rider', 'bicycle/motorcycle')}
    dataset = build_dataset('coco', frames, 'train', **options, classes=classes, positive_from=0.15)
    assert [len(sample.boxes) for sample in dataset if sample.boxes is not None] == [2, 2]
    assert 'score from 0.15' in dataset.remark
    with pytest.raises(DatasetError, match=r'has score 0\.9, so a model made it'):
        build_dataset('coco', frames, 'train', **options, classes=classes)
    with pytest.raises(ConfigError, match=r'ignore_from 0\.1 says nothing without positive_from'):
        build_dataset('coco', frames, 'train', **options, classes=classes, ignore_from=0.1)
    with pytest.raises(ConfigError, match='0 <= ignore_from <= positive_from <= 1'):
        build_dataset('coco', frames, 'train', **options, classes=classes, positive_from=0.3, ignore_from=0.4)


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def _replace_picture(frames: Path, _: Path) -> None:
    (frames / 'train/b/0.png').write_bytes((frames / 'train/a/0.png').read_bytes())


def _drop_score(_: Path, labels: Path) -> None:
    change(labels / BOXES, lambda content: content['annotations'][0].pop('score'))


def _set_score(_: Path, labels: Path) -> None:
    change(labels / BOXES, lambda content: content['annotations'][0].update(score=7))


def _rename_classes(_: Path, labels: Path) -> None:
    change(labels / BOXES, lambda content: [one.update(name='cow') for one in content['categories']])


def _rename_images(_: Path, labels: Path) -> None:
    change(labels / BOXES, lambda content: [one.update(file_name=f'x{one["id"]}.png') for one in content['images']])


def _cut_record(_: Path, labels: Path) -> None:
    (labels / TEACHER).write_text('{')


def _remove_mask(_: Path, labels: Path) -> None:
    (labels / MASKS / 'a/0.png').unlink()


def _remove_all(_: Path, labels: Path) -> None:
    shutil.rmtree(labels / MASKS)
    (labels / BOXES).unlink()


def _remove_record(_: Path, labels: Path) -> None:
    (labels / TEACHER).unlink()


def _leave_unfinished(_: Path, labels: Path) -> None:
    (labels / TEACHER).unlink()
    (labels / UNFINISHED).mkdir()


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_replace_picture, r'b/0\.png was changed after'),
        (_drop_score, r'annotation 1 has no score'),
        (_set_score, r'has score 7; expected a number in 0\.\.1'),
        (_rename_classes, r'has the categories cow, and no usual one'),
        (_rename_images, r'has no labels for .*a/0\.png \(2 of 2 images'),
        (_cut_record, r'is not valid JSON'),
        (_remove_mask, r'has no labels for .*a/0 \(1 of 2 images'),
        (_remove_all, r'holds neither boxes\.json nor masks'),
        (_remove_record, r'has no teacher\.json, so these are no labels of training\.pseudo_label'),
        (_leave_unfinished, r'was not finished; go on with the same command'),
    ],
)
def test_labels_of_something_else_are_refused(
    frames: Path, label: Callable[[Path], Path], spoil: Callable[[Path, Path], object], message: str
) -> None:
    labels = label(frames / 'train')
    spoil(frames, labels)
    config = camvid(frames, teacher=TeacherConfig(labels=str(labels)))
    with pytest.raises(DatasetError, match=message):
        open_dataset(config, CITYSCAPES_11_3)


def test_a_mask_with_an_unknown_class_is_refused(photos: Path, label: Callable[[Path], Path]) -> None:
    labels = label(photos)
    cv2.imwrite(str(labels / MASKS / 'train2017/1.png'), np.full(HW, 11, np.uint8))
    base = build_dataset('coco', photos, 'train', annotations='boxes.json', classes={'car': 'car/truck/bus'})
    with pytest.raises(DatasetError, match='holds class 11; expected 0 to 10, or 255'):
        _ = TaughtDataset(base, TeacherConfig(labels=str(labels)))[0]


def test_one_label_for_two_frames_is_refused(frames: Path, label: Callable[[Path], Path]) -> None:
    labels = label(frames / 'train/a'.replace('/a', ''))
    change(
        labels / BOXES,
        lambda c: (c['images'].pop(), c['images'][0].update(file_name='0.png'), c['annotations'].clear()),
    )
    with pytest.raises(DatasetError, match=r'has one entry 0.png for .*a/0.png and .*b/0.png'):
        open_dataset(camvid(frames, teacher=TeacherConfig(labels=str(labels))), CITYSCAPES_11_3)


def test_the_command(
    frames: Path, tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'out'
    words = ['--teacher', str(tiny_checkpoint_path), '--images', str(frames / 'train'), '--output', str(output)]
    assert main(words) == 0
    assert 'labelled 2 images' in capsys.readouterr().out
    sample = open_dataset(
        camvid(frames, teacher=TeacherConfig(labels=str(output), positive_from=0.2)), CITYSCAPES_11_3
    )[0]
    assert sample.boxes is not None
    assert torch.isfinite(sample.boxes).all()
    assert main(words) == 1
    assert 'holds boxes.json and masks and teacher.json already' in capsys.readouterr().err
    assert main([*words, '--overwrite']) == 0
    for more, message in (
        (['--images', str(tmp_path / 'nowhere')], 'is no folder'),
        (['--output', str(frames / 'train/labels')], 'lies in'),
        (['--images', str(tmp_path / 'out' / MASKS / 'a'), '--mask-from', '2'], '--mask-from must lie in 0..1'),
        (['--sizes', '100'], 'multiples of 32'),
    ):
        capsys.readouterr()
        assert main([*words, '--overwrite', *more]) == 1
        assert message in capsys.readouterr().err
    assert (output / TEACHER).exists(), 'what was there stays when nothing can be made'


def test_a_teacher_of_other_classes_is_refused(frames: Path, label: Callable[[Path], Path]) -> None:
    """Its ids are valid here, and mean something else."""
    labels = label(frames / 'train')
    config = camvid(frames, teacher=TeacherConfig(labels=str(labels)))
    with pytest.raises(
        ConfigError, match=r"'cityscapes_11_3' \(areas road, .*camvid-train has 'camvid_11' \(areas sky"
    ):
        open_dataset(config, load_label_space('camvid_11'))
    record = json.loads((labels / TEACHER).read_text())
    assert record.pop('labels')['name'] == 'cityscapes_11_3'
    (labels / TEACHER).write_text(json.dumps(record))  # as earlier versions wrote it
    assert len(open_dataset(config, CITYSCAPES_11_3)) == 2
    with pytest.raises(ConfigError, match='camvid_11'):
        open_dataset(config, load_label_space('camvid_11'))


class CountingTeacher(DrawnTeacher):
    """Notes what it was shown, and stops after so many images."""

    def __init__(self, stop_after: int = 99) -> None:
        self.seen: list[int] = []
        self.stop_after = stop_after

    def __call__(self, image_rgb: np.ndarray) -> Answer:
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(int(image_rgb[0, 0, 0]))
        return super().__call__(image_rgb)


def test_a_run_that_was_stopped_goes_on(frames: Path, tmp_path: Path, label: Callable[[Path], Path]) -> None:
    whole, output = label(frames / 'train'), tmp_path / 'stopped'
    output.mkdir()
    with pytest.raises(KeyboardInterrupt):
        label_images(CountingTeacher(stop_after=1), frames / 'train', output, Views(), show_progress=False)
    assert not (output / TEACHER).exists()
    with (output / UNFINISHED / 'images.jsonl').open('a') as lines:
        lines.write('{"file_name": "b/0.p')  # the process was killed within a line
    with pytest.raises(ConfigError, match='unfinished labels that were made otherwise'):
        label_images(DrawnTeacher(), frames / 'train', output, Views(flip=False), show_progress=False)
    teacher = CountingTeacher()
    assert label_images(teacher, frames / 'train', output, Views(), show_progress=False) == Labelled(2, ())
    assert len(teacher.seen) == 1, 'the first image was not looked at again'
    for name in (BOXES, TEACHER, f'{MASKS}/a/0.png', f'{MASKS}/b/0.png'):
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert not (output / UNFINISHED).exists()


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize('step', range(10))
def test_a_run_that_was_stopped_while_it_finished_goes_on(
    step: int, overwrite: bool, frames: Path, tmp_path: Path, label: Callable[[Path], Path]
) -> None:
    whole, output = label(frames / 'train'), tmp_path / 'stopped'
    output.mkdir()
    if overwrite:
        label_images(DrawnTeacher(), frames / 'train', output, Views(flip=False), show_progress=False)
    steps = iter(range(99))
    journal = LabelJournal.finish

    def stop_in(function: Callable[..., Any]) -> Callable[..., Any]:
        def stopped(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                raise OSError('No space left on device')
            return function(*arguments, **options)

        return stopped

    def finish(*arguments: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, 'rename', stop_in(Path.rename))
            patch.setattr(Path, 'unlink', stop_in(Path.unlink))
            patch.setattr(Path, 'write_text', stop_in(Path.write_text))
            patch.setattr('training.label_journal.shutil.rmtree', stop_in(shutil.rmtree))
            journal(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LabelJournal, 'finish', finish)
        with pytest.raises(OSError, match='No space left'):
            label_images(DrawnTeacher(), frames / 'train', output, Views(), overwrite=overwrite, show_progress=False)
    # The same command again, and once more: labels that are whole are never lost.
    for again in (overwrite or (output / TEACHER).exists(), True):
        label_images(DrawnTeacher(), frames / 'train', output, Views(), overwrite=again, show_progress=False)
        for name in (BOXES, TEACHER, f'{MASKS}/a/0.png', f'{MASKS}/b/0.png'):
            assert (output / name).read_bytes() == (whole / name).read_bytes()
        assert not (output / UNFINISHED).exists()


def test_files_of_the_user_stay(frames: Path, tmp_path: Path) -> None:
    output = tmp_path / 'mine'
    (output / MASKS / 'a').mkdir(parents=True)
    (output / MASKS / 'a/0.png').write_text('mine')
    with pytest.raises(ConfigError, match='holds masks already'):
        label_images(DrawnTeacher(), frames / 'train', output, Views(), show_progress=False)
    assert (output / MASKS / 'a/0.png').read_text() == 'mine'
    # Also with --overwrite, until there is something to put in their place.
    with pytest.raises(KeyboardInterrupt):
        label_images(CountingTeacher(1), frames / 'train', output, Views(), overwrite=True, show_progress=False)
    assert (output / MASKS / 'a/0.png').read_text() == 'mine'
    label_images(DrawnTeacher(), frames / 'train', output, Views(), overwrite=True, show_progress=False)
    assert (output / MASKS / 'a/0.png').read_bytes().startswith(b'\x89PNG')


def test_a_broken_picture_costs_its_own_labels_alone(
    frames: Path, tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / 'train' / 'a' / 'broken.png').write_text('no picture')
    (frames / 'train' / 'a' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    output = tmp_path / 'out'
    words = ['--teacher', str(tiny_checkpoint_path), '--images', str(frames / 'train'), '--output', str(output)]
    assert main(words) == 1
    said = capsys.readouterr()
    assert 'labelled 2 images' in said.out
    assert '2 pictures have no labels' in said.err
    assert 'broken.png cannot be decoded' in said.err
    assert "No such file or directory: '" in said.err
    assert 'gone.png' in said.err
    assert json.loads((output / TEACHER).read_text())['images'].keys() == {'a/0.png', 'b/0.png'}
    shutil.rmtree(frames / 'train' / 'b')
    (frames / 'train' / 'a' / '0.png').unlink()
    assert main([*words, '--overwrite']) == 1
    assert 'None of the 2 pictures' in capsys.readouterr().err
    assert (output / TEACHER).exists()


def test_what_a_teacher_cannot_add_is_told(
    frames: Path, label: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    labels = label(frames / 'train')
    config = DataConfig(name='camvid', root=str(frames), teacher=TeacherConfig(labels=str(labels)))
    shutil.rmtree(labels / MASKS)
    open_dataset(config, CITYSCAPES_11_3)
    assert 'camvid-train is annotated with what its teacher' in caplog.text
    caplog.clear()
    change(labels / BOXES, lambda content: content['categories'][0].update(name='lorry'))
    open_dataset(camvid(frames, teacher=TeacherConfig(labels=str(labels))), CITYSCAPES_11_3)
    assert 'the categories lorry are none of our classes' in caplog.text
    classes = {'lorry': 'car/truck/bus'}
    taught = open_dataset(camvid(frames, teacher=TeacherConfig(labels=str(labels), classes=classes)), CITYSCAPES_11_3)
    assert taught[0].boxes is not None
    assert len(taught[0].boxes) == 1
    with pytest.raises(ConfigError, match='0 <= ignore_from <= positive_from <= 1'):
        camvid(frames, teacher=TeacherConfig(labels=str(labels), positive_from=0.1, ignore_from=0.4))
