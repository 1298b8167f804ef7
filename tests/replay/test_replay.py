"""``perception replay`` from the command line, on bags with truth: what it finds, keeps, refuses and repeats."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from perception.bag.labelled import open_labelled
from perception.bag.make_bag import labelled_frames, write_frames_bag
from perception.bag.messages import deserialize
from perception.bag.reader import read_frames
from perception.bag.recording import open_recording
from perception.bag.storage.mcap_file import McapFile
from perception.bag.writer import BagWriter
from perception.checkpoint import load_checkpoint
from perception.cli import main
from perception.errors import NotFiniteError
from perception.interfaces import StampedImage
from perception.output_folder import claim_folder
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.replay.provenance import describe_machine
from perception.replay.report import ReplayReport
from perception.replay.run import RESULTS_FILE, SCORE_THRESHOLD
from tests.bag.drawn_bags import FIRST_NS
from tests.training.data.drawn_layouts import draw_camvid, draw_driving_boxes, write_picture
from training.data import build_dataset
from training.evaluation import evaluate_dataset

FRAMES = 6


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    draw_camvid(root, 'test', FRAMES)
    return root


@pytest.fixture(scope='module')
def bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'drive'
    frames, truth = labelled_frames(open_labelled(data), 10.0)
    write_frames_bag(frames, path, encoding='png', truth=truth, progress=False)
    return path


@pytest.fixture
def replay(tiny_checkpoint_path: Path, tmp_path: Path) -> Any:
    """Runs the command into a folder of that name; gives the exit code."""

    def run(recordings: Path | tuple[Path, ...], name: str, *options: object) -> int:
        paths = recordings if isinstance(recordings, tuple) else (recordings,)
        arguments = ['replay', *paths, '--output', tmp_path / name, '--model', tiny_checkpoint_path, *options]
        return main([str(argument) for argument in arguments])

    return run


def wait_for_frames(process: subprocess.Popen[str], frames: int) -> None:
    """Until its own progress bar says that so many of 400 are done."""
    assert process.stderr is not None
    shown = ''
    while not any(int(count) >= frames for count in re.findall(r'(\d+)/400', shown)):
        read = process.stderr.read(20)
        assert read, shown
        shown += read


def report_of(folder: Path) -> ReplayReport:
    return ReplayReport.load(folder)


def test_scores_equal_those_of_the_data_set_to_the_last_digit(
    replay: Any, bag: Path, data: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    assert replay(bag, 'a') == 0
    report = report_of(tmp_path / 'a')
    perceiver = Perceiver(
        load_checkpoint(tiny_checkpoint_path), device='cpu', config=PostprocessConfig(score_threshold=SCORE_THRESHOLD)
    )
    wanted = evaluate_dataset(perceiver, build_dataset('camvid', data, 'test'), show_progress=False).report()
    assert report.scores.segmentation == wanted.segmentation
    assert report.scores.detection == wanted.detection
    assert report.complete
    assert (report.with_truth, len(report.agreement)) == (FRAMES, FRAMES)


def test_two_runs_write_the_same_bytes(replay: Any, bag: Path, tmp_path: Path) -> None:
    assert replay(bag, 'a') == replay(bag, 'b') == 0
    for name in ('report.json', 'predictions.mcap'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    timing = json.loads((tmp_path / 'a' / 'timing.json').read_text())
    assert timing['computed'] == FRAMES
    assert timing['latency_ms']['inference']['p50'] > 0
    assert timing['machines'] == [describe_machine('cpu')]
    assert not (tmp_path / 'a' / RESULTS_FILE).exists()


def test_predictions_are_what_the_perceiver_says(
    replay: Any, bag: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    perceiver = Perceiver(
        load_checkpoint(tiny_checkpoint_path), device='cpu', config=PostprocessConfig(score_threshold=SCORE_THRESHOLD)
    )
    threshold = float(np.median(perceiver(next(read_frames(bag)).image_rgb).detections.scores))
    assert replay(bag, 'a', '--score-threshold', threshold) == 0
    path = tmp_path / 'a' / 'predictions.mcap'
    messages: dict[str, list[Any]] = {}
    with open_recording(path) as recording:
        for message in recording.messages(recording.topics):
            messages.setdefault(message.topic.name, []).append((message.received_ns, deserialize(path, message)))
    assert {topic: len(found) for topic, found in messages.items()} == {
        '/camera/detections': FRAMES,
        '/camera/segmentation/mask/compressed': FRAMES,
        '/camera/overlay/compressed': FRAMES,
        '/camera/segmentation/label_info': 1,
        '/camera/detections/label_info': 1,
    }
    for index, frame in enumerate(read_frames(bag)):
        result = perceiver(frame.image_rgb)
        stamp_ns, detections = messages['/camera/detections'][index]
        assert stamp_ns == frame.stamp_ns
        reported = int((result.detections.scores >= threshold).sum())
        assert len(detections.detections) == reported < len(result.detections)
        first, box = detections.detections[0], result.detections.boxes_xyxy[0]
        assert first.bbox.center.position.x == pytest.approx((box[0] + box[2]) / 2)
        assert first.results[0].hypothesis.class_id == str(result.detections.labels[0])
        _, mask = messages['/camera/segmentation/mask/compressed'][index]
        np.testing.assert_array_equal(cv2.imdecode(mask.data, cv2.IMREAD_UNCHANGED), result.mask)


def test_the_page_shows_the_drive(replay: Any, bag: Path, tmp_path: Path) -> None:
    assert replay(bag, 'a') == 0
    page = (tmp_path / 'a' / 'report.html').read_text()
    for heading in ('Scores along the drive', 'Latency along the drive', 'Time of each stage', 'Confusion matrix'):
        assert f'<h2>{heading}</h2>' in page
    assert 'src="http' not in page
    assert 'Only a part' not in page


def test_truth_in_a_folder_by_order_gives_the_same_scores(replay: Any, bag: Path, data: Path, tmp_path: Path) -> None:
    assert replay(bag, 'topics') == replay(bag, 'folder', '--truth', data) == 0
    first, second = report_of(tmp_path / 'topics'), report_of(tmp_path / 'folder')
    assert first.scores.segmentation == second.scores.segmentation
    assert second.truth == ('camvid test by order, boxes weak (components of the mask)',)


def test_truth_in_a_folder_by_stamp_scores_the_frames_that_have_one(replay: Any, tmp_path: Path) -> None:
    image = np.zeros((40, 64, 3), np.uint8)
    frames = [StampedImage(image_rgb=image + index, stamp_ns=FIRST_NS + index) for index in range(4)]
    write_frames_bag(frames, tmp_path / 'bag', encoding='raw', progress=False)
    for index in (1, 3):
        write_picture(tmp_path / 'labels' / 'testannot' / f'{FIRST_NS + index}.png', np.full((40, 64), 3, np.uint8))
    assert replay(tmp_path / 'bag', 'a', '--truth', tmp_path / 'labels') == 0
    report = report_of(tmp_path / 'a')
    assert report.with_truth == 2
    assert [frame.mean_iou is not None for frame in report.scores.frames] == [False, True, False, True]


def test_truth_of_images_is_found_by_their_names(replay: Any, tmp_path: Path) -> None:
    # Names that end like a time, as cameras and phones give them, are no stamps of these frames.
    for number in range(4):
        write_picture(tmp_path / 'images' / f'IMG_2023120410153{number}.png', np.full((40, 64, 3), number, np.uint8))
    for number, index in ((1, 3), (3, 4)):
        path = tmp_path / 'labels' / 'testannot' / f'IMG_2023120410153{number}.png'
        write_picture(path, np.full((40, 64), index, np.uint8))
    assert replay(tmp_path / 'images', 'a', '--truth', tmp_path / 'labels') == 0
    report = report_of(tmp_path / 'a')
    names = report.scores.segmentation.classes
    found = [frame.truth_pixels and names[int(np.argmax(frame.truth_pixels))] for frame in report.scores.frames]
    assert found == [None, 'road', None, 'sidewalk']
    assert report.truth[0].startswith('camvid test by name')


def test_boxes_alone_score_as_in_training(
    replay: Any, tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / 'photos'
    draw_driving_boxes(root, 'test', 4)
    config = PostprocessConfig(score_threshold=SCORE_THRESHOLD)
    dataset = build_dataset('driving_boxes', root, 'test')
    perceiver = Perceiver(load_checkpoint(tiny_checkpoint_path), device='cpu', config=config)
    wanted = evaluate_dataset(perceiver, dataset, show_progress=False).report().detection
    assert wanted.boxes == (4, 4, 0)
    assert wanted.ignore_regions == 4
    bag = tmp_path / 'bag'
    assert main(['make-bag', str(root), str(bag), '--labelled', '--split', 'test', '--encoding', 'png']) == 0
    split = ('--truth', root, '--truth-split', 'test')
    for name, recording, options in (
        ('by_name', root / 'images' / 'test', split),
        ('by_file', root / 'images' / 'test', ('--truth', root / 'test.json')),
        ('by_order', bag, split),
        ('by_topic', bag, ()),
    ):
        assert replay(recording, name, *options) == 0
        assert ReplayReport.load(tmp_path / name).scores.detection == wanted
    classes = ('--truth-classes', '{"vehicle": "car/truck/bus"}')
    assert replay(bag, 'own_classes', *split, *classes) == 0
    report = ReplayReport.load(tmp_path / 'own_classes').scores
    assert report.detection.boxes == (4, 0, 0)
    assert report.provenance['truth'] == [
        'coco test by order, boxes only (vehicle as car/truck/bus; not scored: person, two_wheeler)'
    ]


def test_frames_of_a_bag_have_no_names(
    replay: Any, bag: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(bag, 'a', '--truth', data, '--truth-match', 'name') == 1
    assert 'is no folder of images' in capsys.readouterr().err


def test_without_truth_there_are_statistics_and_agreement(replay: Any, bag: Path, tmp_path: Path) -> None:
    assert replay(bag, 'a', '--truth', 'none') == 0
    report = report_of(tmp_path / 'a')
    assert report.with_truth == 0
    assert report.scores.segmentation.mean_iou is None
    assert sum(report.class_shares()) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in report.mean_agreement() if value is not None)
    page = (tmp_path / 'a' / 'report.html').read_text()
    assert page.count('>photo</span>') == FRAMES  # beside what was predicted, by agreement
    assert 'by how far boxes and mask agree' in page


def test_every_camera_of_every_bag_is_replayed(replay: Any, data: Path, bag: Path, tmp_path: Path) -> None:
    frames, _ = labelled_frames(open_labelled(data), 10.0)
    with BagWriter(tmp_path / 'rig') as writer:
        for frame in frames:
            writer.write_jpeg('/left/image/compressed', frame)
            writer.write_image('/right/image_raw', frame)
    assert replay((bag, tmp_path / 'rig'), 'a') == 0
    report = report_of(tmp_path / 'a')
    assert report.stream_names == ('drive/camera/image/compressed', 'rig/left/image/compressed', 'rig/right/image_raw')
    assert report.streams == (0,) * FRAMES + (1,) * FRAMES + (2,) * FRAMES
    assert report.with_truth == FRAMES
    assert report.truth[1:] == ('none', 'none')
    page = (tmp_path / 'a' / 'report.html').read_text()
    assert re.findall(r'class="mark-text"[^>]*>(\w+)<', page) == ['1', '2', '3'] * 2
    assert page.count('<th scope="row">rig/right/image_raw</th>') == 1


def test_a_recording_that_cannot_be_read_costs_no_other(
    replay: Any, bag: Path, damaged_bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ('broken', 'empty'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'drive.mcap').write_bytes(b'')
    assert replay((bag, tmp_path / 'broken', damaged_bag), 'a') == 1
    report = report_of(tmp_path / 'a')
    assert report.stream_names == ('drive/camera/image/compressed', 'damaged/camera/image/compressed')
    assert re.search(r'broken: .*drive\.mcap is empty', report.ended_by)
    assert 'broken is left out' in caplog.text
    assert replay((tmp_path / 'broken', tmp_path / 'empty'), 'b') == 1
    assert not (tmp_path / 'b').exists()
    assert replay((bag, tmp_path / 'nowhere'), 'b') == 1  # a slip of the hand
    assert not (tmp_path / 'b').exists()


def test_a_recording_given_under_two_names_is_noticed(
    replay: Any, bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(bag, tmp_path / 'copy')
    assert replay((bag, tmp_path / 'copy'), 'a', '--frames', 1) == 0
    assert 'copy is drive, byte for byte; it counts twice' in caplog.text


@pytest.mark.parametrize('content', [b'', b'x' * 50], ids=['nothing', 'junk'])
def test_a_recording_without_a_usable_frame_is_no_success(
    replay: Any, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / 'bad') as writer:
        for stamp_ns in (FIRST_NS, FIRST_NS + 1):
            header = writer.create_header(stamp_ns)
            data = np.frombuffer(content, np.uint8)
            kind = 'sensor_msgs/msg/CompressedImage'
            writer.write(
                '/camera/image/compressed', kind, writer.create(kind, header=header, format='jpeg', data=data), stamp_ns
            )
    assert replay(tmp_path / 'bad', 'a') == 1
    shown = capsys.readouterr()
    assert 'No frame could be used' in shown.err
    assert re.search(r'frames skipped +2 undecodable', shown.out)
    assert 'first undecodable, bad/camera/image/compressed at 1700000000000000000 ns: A picture of' in shown.out


def test_truth_that_fits_no_frame_is_no_success(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_camvid(tmp_path / 'other', 'test', 2)
    options = ['--truth', tmp_path / 'other', '--truth-match', 'stamp']
    assert replay(bag, 'a', *options) == 1
    assert 'do not end with a time in ns' in capsys.readouterr().err
    for number, file in enumerate(sorted((tmp_path / 'other' / 'testannot').iterdir())):
        file.rename(file.with_name(f'{FIRST_NS + 7 + number}.png'))
    assert replay(bag, 'a', *options) == 1
    said = capsys.readouterr().err
    assert re.search(rf'None of the {FRAMES} frames \(stamps \d+ to \d+ ns\) has a truth \(camvid test by stamp', said)
    assert 'match by order' in said
    assert replay(bag, 'b', '--truth', 'none') == 0  # none was wanted


def test_what_is_read_is_not_written_into(
    replay: Any, bag: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in (bag, bag / 'report', data):
        assert replay(bag, str(output), '--truth', data) == 1
        assert 'which is to be read; name a folder outside of it' in capsys.readouterr().err
    assert sorted(entry.suffix for entry in bag.iterdir()) == ['.mcap', '.yaml']
    # Of several recordings, each has a folder in --output that is named after it.
    shutil.copytree(bag, tmp_path / 'other')
    assert replay((bag, tmp_path / 'other'), str(bag.parent)) == 1
    assert f'--output {bag} lies in {bag}, which is to be read' in capsys.readouterr().err
    assert sorted(entry.suffix for entry in bag.iterdir()) == ['.mcap', '.yaml']


def test_what_is_read_is_not_written_over(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(bag, 'a', '--video') == 0
    for name in ('overlay.mp4', 'predictions.mcap'):
        before = (tmp_path / 'a' / name).read_bytes()
        assert (
            replay(tmp_path / 'a' / name, 'a', '--video', '--overwrite', '--topic', '/camera/overlay/compressed') == 1
        )
        assert f'{name} is to be read, and would be replaced in --output' in capsys.readouterr().err
        assert (tmp_path / 'a' / name).read_bytes() == before
    (tmp_path / 'b').mkdir()
    (tmp_path / 'a' / 'overlay.mp4').rename(tmp_path / 'b' / 'drive.mp4')
    assert replay(tmp_path / 'b' / 'drive.mp4', 'b', '--video', '--frames', 1) == 0  # beside it is no harm


def test_notes_beside_a_recording_change_nothing(replay: Any, bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / 'noted' / 'drive')
    (tmp_path / 'noted' / 'drive' / 'NOTES.txt').write_text('rain from 12:03 on')
    assert replay(bag, 'a') == replay(tmp_path / 'noted' / 'drive', 'b') == 0
    assert (tmp_path / 'a' / 'report.json').read_bytes() == (tmp_path / 'b' / 'report.json').read_bytes()


@pytest.fixture
def damaged_bag(data: Path, tmp_path: Path) -> Path:
    """One frame is junk, and one annotation is of another size."""
    frames, truth = labelled_frames(open_labelled(data), 10.0)
    with BagWriter(tmp_path / 'damaged') as writer:
        for index, frame in enumerate(frames):
            known = truth(frame)
            assert known is not None
            assert known.mask is not None
            mask = known.mask[:20] if index == 4 else known.mask
            if index == 2:
                message = writer.create(
                    'sensor_msgs/msg/CompressedImage',
                    header=writer.create_header(frame.stamp_ns),
                    format='jpeg',
                    data=np.zeros(50, np.uint8),
                )
                writer.write('/camera/image/compressed', 'sensor_msgs/msg/CompressedImage', message, frame.stamp_ns)
            else:
                writer.write_png('/camera/image/compressed', frame)
            png = cv2.imencode('.png', mask)[1].tobytes()
            writer.write_mask('/camera/truth/mask/compressed', png, frame.stamp_ns)
    return tmp_path / 'damaged'


def test_damaged_frames_and_truth_are_listed_and_the_rest_is_scored(
    replay: Any, damaged_bag: Path, tmp_path: Path
) -> None:
    assert replay(damaged_bag, 'a') == 0
    report = report_of(tmp_path / 'a')
    assert [(skip.reason, skip.stamp_ns) for skip in report.skipped] == [
        ('undecodable', 200_000_000),
        ('bad_truth', 400_000_000),
    ]
    assert 'The true mask is 20x64' in report.skipped[1].message
    assert (len(report.agreement), report.with_truth) == (FRAMES - 1, FRAMES - 2)
    assert '<h2>Skipped</h2>' in (tmp_path / 'a' / 'report.html').read_text()


def test_a_frame_that_the_network_fails_on_is_listed_and_the_rest_is_scored(
    replay: Any, bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    look = Perceiver.__call__

    def fail_on_one(self: Perceiver, image: np.ndarray) -> Any:
        if np.array_equal(image, broken.image_rgb):
            raise NotFiniteError('The network gave a mask that is not finite.')
        return look(self, image)

    broken = list(read_frames(bag))[3]
    monkeypatch.setattr(Perceiver, '__call__', fail_on_one)
    assert replay(bag, 'a') == 0
    report = report_of(tmp_path / 'a')
    assert [(skip.reason, skip.stamp_ns) for skip in report.skipped] == [('not_finite', broken.stamp_ns)]
    assert broken.stamp_ns not in report.recorded_ns
    assert (len(report.agreement), report.with_truth) == (FRAMES - 1, FRAMES - 1)
    assert re.search(r'frames skipped +1 not_finite', capsys.readouterr().out)


def test_truth_by_order_stays_beside_its_frame_behind_a_damaged_one(
    replay: Any, damaged_bag: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / 'moving'
    shutil.copytree(data, folder)
    for index, path in enumerate(sorted((folder / 'testannot').iterdir())):
        write_picture(path, np.full((40, 64), index, np.uint8))
    assert replay(damaged_bag, 'a', '--truth', folder) == 0
    report = report_of(tmp_path / 'a')
    # CamVid's indices 0 1 3 4 5 are sky, building, road, sidewalk, vegetation; 2 was lost with its frame.
    names = report.scores.segmentation.classes
    found = [names[int(np.argmax(frame.truth_pixels or ()))] for frame in report.scores.frames]
    assert found == ['sky', 'building', 'road', 'sidewalk', 'vegetation']


def test_as_many_annotations_as_frames_are_needed(
    replay: Any, bag: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data, tmp_path / 'fewer')
    next((tmp_path / 'fewer' / 'testannot').iterdir()).unlink()
    assert replay(bag, 'a', '--truth', tmp_path / 'fewer') == 1
    assert f'holds {FRAMES - 1} annotations' in capsys.readouterr().err
    assert not (tmp_path / 'a').exists()


def test_of_a_bag_that_is_cut_short_all_that_is_left_is_scored(replay: Any, data: Path, tmp_path: Path) -> None:
    draw_camvid(tmp_path / 'long', 'test', 400)
    frames, truth = labelled_frames(open_labelled(tmp_path / 'long'), 10.0)
    write_frames_bag(frames, tmp_path / 'cut', encoding='raw', truth=truth, progress=False)
    file = tmp_path / 'cut' / 'cut.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert replay(tmp_path / 'cut', 'a') == 1
    report = report_of(tmp_path / 'a')
    assert 'cut.mcap was cut short' in report.ended_by
    assert 50 < len(report.agreement) < 220
    assert report.with_truth >= len(report.agreement) - 1


def test_a_bag_that_is_damaged_gives_what_was_in_front_of_that(
    replay: Any, bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = McapFile.messages

    def cut(self: Any, *arguments: Any, **options: Any) -> Any:
        for count, message in enumerate(original(self, *arguments, **options)):
            if count == 4 and message.topic.name.endswith('image/compressed'):
                raise OSError('unexpected end of file')
            yield message

    monkeypatch.setattr(McapFile, 'messages', cut)
    assert replay(bag, 'a') == 1
    report = report_of(tmp_path / 'a')
    assert 'unexpected end of file' in report.ended_by
    assert len(report.agreement) == 4
    assert '<h2>Only a part of the recording</h2>' in (tmp_path / 'a' / 'report.html').read_text()
    monkeypatch.undo()
    monkeypatch.setattr('perception.replay.run.describe_machine', lambda device: f'another, {device}')
    assert replay(bag, 'a', '--resume', '--device', 'cpu') == 0
    timing = json.loads((tmp_path / 'a' / 'timing.json').read_text())
    assert timing['computed'] == FRAMES - 4
    assert set(timing['machines']) == {describe_machine('cpu'), 'another, cpu'}
    assert 'taken over from the run before' in (tmp_path / 'a' / 'report.html').read_text()


def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(
    replay: Any, data: Path, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    draw_camvid(tmp_path / 'long', 'test', 400)
    frames, truth = labelled_frames(open_labelled(tmp_path / 'long'), 10.0)
    long = tmp_path / 'long_drive'
    write_frames_bag(frames, long, encoding='raw', truth=truth, progress=False)
    command = [sys.executable, '-m', 'perception.cli', 'replay', long, '--output', tmp_path / 'killed']
    process = subprocess.Popen(
        [*map(str, command), '--model', str(tiny_checkpoint_path)], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stderr is not None
    wait_for_frames(process, 30)
    process.kill()
    process.wait(30)
    process.stderr.close()
    assert replay(long, 'killed') == 1  # an unfinished replay is not written over
    assert replay(long, 'killed', '--resume') == 0
    assert 0 < json.loads((tmp_path / 'killed' / 'timing.json').read_text())['computed'] <= 371
    assert replay(long, 'whole') == 0
    for name in ('report.json', 'predictions.mcap'):
        assert (tmp_path / 'killed' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_report_that_says_so(
    replay: Any, tiny_checkpoint_path: Path, tmp_path: Path, number: int
) -> None:
    draw_camvid(tmp_path / 'long', 'test', 400)
    command = [sys.executable, '-m', 'perception.cli', 'replay', tmp_path / 'long' / 'test', '--output', tmp_path / 'a']
    process = subprocess.Popen(
        [*map(str, command), '--model', str(tiny_checkpoint_path)], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stderr is not None
    wait_for_frames(process, 1)
    process.send_signal(number)
    process.stderr.read()
    assert process.wait(60) == 130
    report = report_of(tmp_path / 'a')
    assert not report.complete
    assert 'signal' in report.ended_by
    assert len(report.agreement) < 400
    assert (tmp_path / 'a' / 'predictions.mcap').exists()


def test_results_of_another_run_are_refused(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('perception.replay.run._look_at_all', interrupted)
    assert replay(bag, 'a') == 130
    monkeypatch.undo()
    assert replay(bag, 'a', '--resume', '--score-threshold', 0.9) == 1
    assert 'score threshold of pictures and agreement (0.3, now 0.9)' in capsys.readouterr().err
    assert replay(bag, 'a', '--score-threshold', 0.9, '--overwrite') == 0  # begins anew


def test_a_finished_report_is_replaced_only_on_demand(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(bag, 'a', '--frames', 2) == 0
    assert replay(bag, 'a') == 1
    assert 'holds a report already' in capsys.readouterr().err
    assert len(report_of(tmp_path / 'a').agreement) == 2
    assert replay(bag, 'a', '--overwrite') == 0
    assert len(report_of(tmp_path / 'a').agreement) == FRAMES
    written = (tmp_path / 'a' / 'timing.json').read_bytes()
    assert replay(bag, 'a', '--resume') == 0  # there is nothing left to do
    assert (tmp_path / 'a' / 'timing.json').read_bytes() == written
    assert replay(tmp_path / 'a' / 'predictions.mcap', 'a', '--resume', '--topic', 'x') == 1  # something else


def test_a_report_is_there_when_all_that_belongs_to_it_is(
    replay: Any, bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, 'No space left on device')

    assert replay(bag, 'a', '--frames', 2) == 0
    for writer in ('perception.replay.timing.Timing.save', 'perception.replay.outputs.write_replay_page'):
        with monkeypatch.context() as full:
            full.setattr(writer, fail)
            assert replay(bag, 'a', '--overwrite') == 1
        assert 'Free some space and --resume' in capsys.readouterr().err
        assert not (tmp_path / 'a' / 'report.json').exists()
        assert replay(bag, 'a', '--resume') == 0
        assert json.loads((tmp_path / 'a' / 'timing.json').read_text())['computed'] == 0
        assert len(report_of(tmp_path / 'a').agreement) == FRAMES
        assert {file.name for file in (tmp_path / 'a').iterdir()} == {
            '.lock', 'predictions.mcap', 'report.html', 'report.json', 'timing.json'
        }  # fmt: skip
    (tmp_path / 'a' / 'timing.json').unlink()
    assert replay(bag, 'a', '--resume') == 1
    assert 'holds a report already' in capsys.readouterr().err


def test_a_report_of_no_use_is_none_on_resume_either(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_picture(tmp_path / 'labels' / 'testannot' / f'{FIRST_NS + number}.png', np.zeros((40, 64), np.uint8))
    for options in ([], ['--resume']):
        assert replay(bag, 'a', '--truth', tmp_path / 'labels', *options) == 1
        shown = capsys.readouterr()
        assert f'None of the {FRAMES} frames (stamps ' in shown.err
    assert '--resume has nothing to do' in shown.out


def test_resume_goes_on_with_no_other_replay(
    replay: Any, bag: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data, tmp_path / 'labels')
    shutil.copytree(bag, tmp_path / 'drive')
    kept = ['--truth', tmp_path / 'labels']
    assert replay(tmp_path / 'drive', 'a', *kept) == 0
    assert replay(tmp_path / 'drive', 'a', *kept, '--resume') == 0
    for options, said in (
        ([*kept, '--frames', 2], r'frames of each \(all, now 2\)'),
        ([*kept, '--score-threshold', 0.5], r'score threshold of pictures and agreement \(0.3, now 0.5\)'),
        ([*kept, '--precision', 'bf16'], r'precision \(fp32, now bf16\)'),
        ([*kept, '--workers', 1], r'threads a frame \(1, now all\)'),
        ([], r'truth \(.*now .*topics'),
        (['--truth', 'none'], r'truth \(.*now .*none'),
    ):
        capsys.readouterr()
        assert replay(tmp_path / 'drive', 'a', *options, '--resume') == 1, options
        assert re.search(f'the report of another replay, which differs in .*{said}', capsys.readouterr().err)
    label = next((tmp_path / 'labels' / 'testannot').iterdir())
    write_picture(label, np.full((40, 64), 5, np.uint8))
    assert replay(tmp_path / 'drive', 'a', *kept, '--resume') == 1
    assert re.search(r'differs in truth sha256 \(', capsys.readouterr().err)
    (tmp_path / 'labels').rename(tmp_path / 'moved')
    shutil.copy(next((data / 'testannot').glob(label.name)), tmp_path / 'moved' / 'testannot')
    assert replay(tmp_path / 'drive', 'a', '--truth', tmp_path / 'moved', '--resume') == 0
    (tmp_path / 'drive' / 'metadata.yaml').open('a').write('\n')
    assert replay(tmp_path / 'drive', 'a', '--truth', tmp_path / 'moved', '--resume') == 1
    assert re.search(r'differs in recordings drive \(\w+, now \w+\)', capsys.readouterr().err)
    assert replay(tmp_path / 'drive', 'a', '--frames', 2, '--resume', '--overwrite') == 0
    assert len(report_of(tmp_path / 'a').agreement) == 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--topic', '/rear/image'], "no image topic '/rear/image'.*Image topics: /camera/image/compressed"),
        (['--truth', 'nowhere'], 'There is no folder /.*/nowhere; give the root'),
        (['--truth-mask-topic', '/mask'], "nothing on '/mask'"),
        (['--model', 'interdependant'], "did you mean 'interdependent'"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_written(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert replay(bag, 'a', *options) == 1
    shown = capsys.readouterr().err
    assert re.search(message, shown), shown
    assert not (tmp_path / 'a').exists()


def test_two_replays_do_not_share_a_folder(
    replay: Any, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claim_folder(tmp_path / 'a'):
        assert replay(bag, 'a') == 1
    assert 'Another run is writing' in capsys.readouterr().err
    assert replay(bag, 'a') == 0
