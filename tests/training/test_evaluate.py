"""The command: a report and a page in a folder, and mistakes told at the start."""

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.metrics import Report
from tests.training.data.drawn_layouts import draw_coco, draw_driving_boxes, draw_voc
from tests.training.teachers.test_teachers import CELLS, SIZE, write_yolox
from training.evaluate import main

HW = (60, 100)


def write_camvid(root: Path, count: int) -> None:
    random = np.random.default_rng(0)
    (root / 'test').mkdir(parents=True)
    (root / 'testannot').mkdir()
    for index in range(count):
        mask = random.integers(0, 11, (6, 10)).astype(np.uint8).repeat(10, axis=0).repeat(10, axis=1)
        mask[:5] = 255
        cv2.imwrite(str(root / 'test' / f'{index}.png'), random.integers(0, 255, (*HW, 3)).astype(np.uint8))
        cv2.imwrite(str(root / 'testannot' / f'{index}.png'), mask)
    (root / 'test.txt').write_text(''.join(f'{index}\n' for index in range(count)))


def write_cityscapes(root: Path, count: int) -> None:
    random = np.random.default_rng(1)
    ids = np.array([0, 4, 7, 8, 11, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 32, 33], np.uint8)
    images, truth = root / 'leftImg8bit' / 'val' / 'drawn', root / 'gtFine' / 'val' / 'drawn'
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    for index in range(count):
        stem = f'drawn_000000_{index:06d}'
        labels = random.choice(ids, (6, 10)).repeat(10, axis=0).repeat(10, axis=1)
        instances = labels.astype(np.uint16)
        instances[labels == 26] = 26001
        cv2.imwrite(str(images / f'{stem}_leftImg8bit.png'), random.integers(0, 255, (*HW, 3)).astype(np.uint8))
        cv2.imwrite(str(truth / f'{stem}_gtFine_labelIds.png'), labels)
        cv2.imwrite(str(truth / f'{stem}_gtFine_instanceIds.png'), instances)


def test_command_on_camvid(tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_camvid(tmp_path / 'camvid', 3)
    output = tmp_path / 'out'
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--dataset', 'camvid', '--split', 'test']
    arguments += ['--root', str(tmp_path / 'camvid'), '--output', str(output), '--device', 'cpu', '--limit', '2']
    assert main(arguments) == 0
    report = Report.load(output / 'report.json')
    assert report.segmentation.images == 2
    assert report.segmentation.pixels == 2 * 55 * 100
    assert report.provenance['data set'] == 'camvid-test, boxes weak (components of the mask)'
    page = (output / 'report.html').read_text()
    HTMLParser().feed(page)
    assert str(tmp_path) not in page
    assert page.count('data:image/jpeg') == 4
    printed = capsys.readouterr().out
    assert f'{100 * report.segmentation.mean_iou:.1f}' in printed
    assert 'images/s' in printed
    first = (output / 'report.json').read_bytes()
    assert main(arguments) == 1
    assert f'{output} holds a report already' in capsys.readouterr().err
    assert main([*arguments, '--overwrite']) == 0
    assert (output / 'report.json').read_bytes() == first


def test_command_on_cityscapes_agrees_with_its_scripts(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    write_cityscapes(tmp_path / 'data' / 'cityscapes', 3)
    monkeypatch.setenv('PERCEPTION_DATA', str(tmp_path / 'data'))
    output = tmp_path / 'out'
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--dataset', 'cityscapes', '--split', 'val']
    assert main([*arguments, '--output', str(output), '--device', 'cpu', '--pictures', '0']) == 0
    report = Report.load(output / 'report.json')
    official = json.loads((output / 'cityscapesscripts.json').read_text())
    assert official['mean_iou'] == pytest.approx(report.segmentation.mean_iou, abs=1e-6)
    assert official['iou'] == pytest.approx(report.segmentation.iou, abs=1e-6)
    assert report.segmentation.mean_iou > 0
    assert len(list((output / 'masks' / 'predictions').glob('*_labelIds.png'))) == 3
    assert ', equal to the above' in capsys.readouterr().out


def test_equal_names_in_two_cities_are_scored_and_written_apart(tiny_checkpoint_path: Path, tmp_path: Path):
    root, output = tmp_path / 'data', tmp_path / 'out'
    for city, ids in (('one', 7), ('two', 23)):
        for path, value in (
            (f'leftImg8bit/val/{city}/0_leftImg8bit', 90),
            (f'gtFine/val/{city}/0_gtFine_labelIds', ids),
        ):
            (root / path).parent.mkdir(parents=True)
            cv2.imwrite(str(root / f'{path}.png'), np.full(HW, value, np.uint8))
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--dataset', 'cityscapes', '--root', str(root)]
    assert main([*arguments, '--options', '{"boxes": false}', '--output', str(output), '--device', 'cpu']) == 0
    frames = {frame.name: frame.truth_pixels for frame in Report.load(output / 'report.json').frames}
    assert {name: pixels.index(HW[0] * HW[1]) for name, pixels in frames.items() if pixels} == {
        'cityscapes-val/one/0': 0,
        'cityscapes-val/two/0': 4,
    }
    for city, ids in (('one', 7), ('two', 23)):
        written = cv2.imread(str(output / 'masks' / 'truth' / city / '0_labelIds.png'), cv2.IMREAD_UNCHANGED)
        assert (written == ids).all()


def test_mistakes_are_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_path: Path
):
    monkeypatch.delenv('PERCEPTION_DATA', raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(['--checkpoint', 'missing.safetensors', '--dataset', 'camvid', '--root', 'x']) == 1
    assert 'missing.safetensors' in capsys.readouterr().err
    checkpoint = ['--checkpoint', str(tiny_checkpoint_path), '--dataset', 'camvid']
    assert main(checkpoint) == 1
    assert 'PERCEPTION_DATA' in capsys.readouterr().err
    assert main([*checkpoint, '--root', str(tmp_path / 'nowhere')]) == 1
    assert 'nowhere' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*checkpoint, '--batch', '0'])


def test_command_reads_coco_with_options_of_its_own(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    draw_coco(tmp_path, 'val')
    (tmp_path / 'annotations' / 'instances_val2017.json').rename(tmp_path / 'labels.json')
    (tmp_path / 'val2017').rename(tmp_path / 'my pics')
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--dataset', 'coco', '--root', str(tmp_path)]
    arguments += ['--output', str(tmp_path / 'out'), '--device', 'cpu']
    assert main([*arguments, '--options', '{"annotations": "labels.json", "images": "my pics"}']) == 0
    report = Report.load(tmp_path / 'out' / 'report.json')
    assert (report.detection.images, report.segmentation.images) == (3, 0)
    capsys.readouterr()
    for text, message in (
        ('{annotations}', 'is not JSON'),
        ('["labels.json"]', 'is not a JSON object'),
        ('{"annotation": "labels.json"}', "did you mean 'annotations'"),
        ('{"annotations": 3}', """Data set 'coco' cannot take these options. Parser key "annotations":"""),
    ):
        assert main([*arguments, '--options', text]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert 'Traceback' not in error


def test_command_scores_voc_as_its_devkit_too(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    draw_voc(tmp_path / 'voc' / 'VOC2007', 'test')
    output = tmp_path / 'out'
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--root', str(tmp_path / 'voc'), '--split', 'test']
    arguments += ['--dataset', 'voc', '--options', '{"years": [2007]}', '--output', str(output), '--device', 'cpu']
    assert main(arguments) == 0
    report = Report.load(output / 'report.json')
    assert report.provenance['data set'] == 'voc-test, VOC2007'
    assert (report.detection.images, report.segmentation.images, report.detection.ignore_regions) == (3, 2, 3)
    scores = json.loads((output / 'voc_ap.json').read_text())
    assert (scores['classes'], scores['objects']) == (list(report.detection.classes), [3, 3, 0])
    assert (scores['ap_area'][2], scores['ap_11_point'][2]) == (None, None)
    assert 'AP 11-point %' in capsys.readouterr().out
    draw_coco(tmp_path / 'coco', 'test')
    other = [
        *arguments[:2],
        '--dataset',
        'coco',
        '--root',
        str(tmp_path / 'coco'),
        '--split',
        'test',
        '--device',
        'cpu',
    ]
    assert main([*other, '--output', str(output), '--overwrite']) == 0
    assert not (output / 'voc_ap.json').exists(), 'it was of the report that is replaced'
    assert main([*other, '--output', str(output), '--overwrite', '--voc-ap']) == 0
    assert json.loads((output / 'voc_ap.json').read_text())['objects'] == [3, 3, 0]
    assert not (output / 'coco_results.json').exists(), 'a car/truck/bus is three categories of this file'


def test_command_scores_coco_files_by_their_own_evaluation_too(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    draw_driving_boxes(tmp_path / 'data', 'test')
    file, output = tmp_path / 'data' / 'test.json', tmp_path / 'out'
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--root', str(tmp_path / 'data'), '--split', 'test']
    arguments += ['--dataset', 'driving_boxes', '--output', str(output), '--device', 'cpu', '--limit', '2']
    assert main(arguments) == 0
    assert "COCO's evaluation cannot take" in capsys.readouterr().out, 'the annotations have no area'
    results = json.loads((output / 'coco_results.json').read_text())
    assert {entry['image_id'] for entry in results} == {10, 11}
    assert {entry['category_id'] for entry in results} <= {1, 2, 3}
    content = json.loads(file.read_text())
    for entry in content['annotations']:
        entry['area'] = 50
        # As a box that the reader clips is, so that both score the same.
        entry['bbox'][2] = min(entry['bbox'][2], 64 - entry['bbox'][0])
    file.write_text(json.dumps(content))
    assert main([*arguments, '--overwrite']) == 0
    report = Report.load(output / 'report.json')
    scores = json.loads((output / 'coco_scores.json').read_text())
    assert list(scores)[:6] == ['AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large']
    assert scores['AP50'] == pytest.approx(report.detection.mean_ap50, abs=1e-9)
    assert scores['AP'] == pytest.approx(report.detection.mean_ap, abs=1e-9)
    assert scores['AP large'] is None
    assert main([*arguments, '--overwrite', '--at', 'network']) == 0
    assert not (output / 'coco_scores.json').exists(), 'boxes of reduced images are not those of the file'


def test_what_the_end_would_fail_on_is_told_at_the_start(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    write_camvid(tmp_path / 'camvid', 1)
    monkeypatch.setattr('training.evaluate.evaluate_dataset', None)  # is not reached
    output = tmp_path / 'out'
    arguments = ['--checkpoint', str(tiny_checkpoint_path), '--dataset', 'camvid', '--split', 'test', '--device', 'cpu']
    arguments += ['--root', str(tmp_path / 'camvid'), '--output', str(output)]
    assert main([*arguments, '--losses', str(tmp_path / 'nofile')]) == 1
    assert 'Cannot read the metrics file' in capsys.readouterr().err
    (output / 'report.html').mkdir(parents=True)
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f'training.evaluate: {output}/report.html is a folder; move it away or name another --output.\n'
    )


def test_a_teacher_is_scored_as_a_checkpoint_is(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_camvid(tmp_path / 'frames', 2)
    words = ['--dataset', 'camvid', '--root', str(tmp_path / 'frames'), '--split', 'test']
    assert main([*words, '--checkpoint', str(tiny_checkpoint_path), '--output', str(tmp_path / 'network')]) == 0
    assert main([*words, '--teacher', str(tiny_checkpoint_path), '--output', str(tmp_path / 'teacher')]) == 0
    network, teacher = (Report.load(tmp_path / name / 'report.json') for name in ('network', 'teacher'))
    assert teacher.segmentation.mean_iou == network.segmentation.mean_iou
    capsys.readouterr()
    for more, message in (
        (['--teacher', str(tiny_checkpoint_path), '--checkpoint', str(tiny_checkpoint_path)], 'not both'),
        (['--flip'], '--sizes and --flip are of --teacher'),
        (['--teacher', str(tiny_checkpoint_path), '--precision', 'bf16'], 'runs on the CPU in fp32'),
    ):
        assert main([*words, *more]) == 1
        assert message in capsys.readouterr().err


def test_a_teacher_without_masks_is_scored_by_its_boxes(tmp_path: Path) -> None:
    write_camvid(tmp_path / 'frames', 2)
    teacher = write_yolox(tmp_path / 'yolox.onnx', np.zeros((CELLS, 85), np.float32))
    words = ['--dataset', 'camvid', '--root', str(tmp_path / 'frames'), '--split', 'test', '--sizes', str(SIZE)]
    assert main([*words, '--teacher', str(teacher), '--output', str(tmp_path / 'out')]) == 0
    report = Report.load(tmp_path / 'out' / 'report.json')
    assert report.segmentation.mean_iou is None
    assert report.detection.mean_ap50 == 0
