import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from perception.checkpoint import load_checkpoint
from perception.errors import NotFiniteError
from perception.interfaces import Detections, GroundTruth, InputSpec, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Report
from perception.metrics.pictures import PictureKeeper
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from tests.training.data.drawn_layouts import draw_coco
from training.data.dataset import SceneDataset
from training.data.sample import Sample
from training.evaluate import SCORE_THRESHOLD, Scale, evaluate_dataset, main, prepare_scene

HW = (60, 100)


class DrawnDataset(SceneDataset):
    """Images with masks, with boxes, with both and with nothing, of two sizes."""

    labels = CITYSCAPES_11_3
    name = 'drawn-val'

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        height, width = HW if index % 2 else (72, 90)
        boxes = torch.tensor([[10.0, 10, 40, 50], [50, 20, 80, 40]])
        has_boxes, has_mask = index in (0, 1, 3), index in (0, 2, 3)
        return Sample(
            image=torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
            boxes=boxes if has_boxes else None,
            labels=torch.tensor([0, 1]) if has_boxes else None,
            mask=torch.randint(0, 11, (height, width), generator=generator, dtype=torch.uint8) if has_mask else None,
            name=f'drawn/{index}',
        )

    def fingerprint(self) -> str:
        return '0'


@pytest.fixture
def perceiver(tiny_checkpoint_path: Path) -> Perceiver:
    config = PostprocessConfig(score_threshold=SCORE_THRESHOLD)
    return Perceiver(load_checkpoint(tiny_checkpoint_path), device='cpu', config=config)


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


def test_scores_each_image_for_what_it_is_annotated_for(perceiver: Perceiver):
    pictures = PictureKeeper(CITYSCAPES_11_3, count=1)
    evaluator = evaluate_dataset(perceiver, DrawnDataset(), batch_size=2, pictures=pictures, show_progress=False)
    report = evaluator.report()
    assert (report.segmentation.images, report.detection.images, len(report.frames)) == (3, 3, 5)
    assert report.segmentation.pixels == 72 * 90 * 2 + HW[0] * HW[1]
    assert report.detection.boxes == (3, 3, 0)
    assert report.detection.detections > 0
    assert [frame.name for frame in report.frames] == [f'drawn/{index}' for index in range(5)]
    assert len(pictures.worst()) == len(pictures.best()) == 1


def test_an_output_that_is_not_finite_names_its_image(perceiver: Perceiver):
    with torch.no_grad():
        next(perceiver.checkpoint.network.mask_head.parameters()).fill_(float('nan'))
    with pytest.raises(NotFiniteError, match=r'drawn-val, drawn/0: The network gave mask that are not finite'):
        evaluate_dataset(perceiver, DrawnDataset(), limit=1, show_progress=False)


def test_loading_in_another_process_changes_nothing(perceiver: Perceiver):
    runs = [
        evaluate_dataset(perceiver, DrawnDataset(), workers=workers, limit=2, show_progress=False) for workers in (0, 1)
    ]
    first, second = (run.report() for run in runs)
    assert len(first.frames) == 2
    assert first == second


def test_at_network_size_truth_is_reduced(perceiver: Perceiver):
    height, width = perceiver.checkpoint.network.input_spec.image_hw
    report = evaluate_dataset(perceiver, DrawnDataset(), at='network', show_progress=False).report()
    assert report.segmentation.pixels == 3 * height * width
    assert report.detection.boxes == (3, 3, 0)


class Oracle:
    """Stands in for the perceiver: recognises each image of the drawn data set and says its truth."""

    labels = CITYSCAPES_11_3
    device = 'cpu'

    def __init__(self, at: Scale) -> None:
        self.checkpoint = SimpleNamespace(network=SimpleNamespace(input_spec=InputSpec(image_hw=(36, 64))))
        scenes = [prepare_scene(sample, at, InputSpec(image_hw=(36, 64))) for sample in DrawnDataset()]
        self.truths = {image.tobytes(): truth for image, truth in scenes}

    def perceive(self, images: list[np.ndarray]) -> list[SceneResult]:
        return [self.look(image, self.truths[image.tobytes()]) for image in images]

    def look(self, image: np.ndarray, truth: GroundTruth) -> SceneResult:
        boxes = np.zeros((0, 4), np.float32) if truth.boxes_xyxy is None else truth.boxes_xyxy
        labels = np.zeros(0, np.int64) if truth.labels is None else truth.labels
        mask = np.zeros(image.shape[:2], np.uint8) if truth.mask is None else truth.mask
        found = Detections(boxes_xyxy=boxes, scores=np.ones(len(boxes), np.float32), labels=labels)
        return SceneResult(detections=found, mask=mask)


@pytest.mark.parametrize('at', ['original', 'network'])
def test_saying_the_truth_scores_one_at_both_sizes(at: Scale):
    report = evaluate_dataset(Oracle(at), DrawnDataset(), at=at, show_progress=False).report()
    assert report.segmentation.mean_iou == 1
    assert report.detection.mean_ap == pytest.approx(1)


def test_the_reduced_scene():
    sample = DrawnDataset()[3]
    image, truth = prepare_scene(sample, 'network', InputSpec(image_hw=(120, 50)))
    assert image.shape == (120, 50, 3)
    assert truth.mask is not None
    assert truth.mask.shape == (120, 50)
    np.testing.assert_allclose(truth.boxes_xyxy, [[5, 20, 20, 100], [25, 40, 40, 80]])
    letterbox = InputSpec(image_hw=(120, 50), resize='letterbox')
    assert prepare_scene(sample, 'network', letterbox)[0].shape == (30, 50, 3)
    original, _ = prepare_scene(sample, 'original', letterbox)
    assert (original == sample.image.permute(1, 2, 0).numpy()).all()


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
