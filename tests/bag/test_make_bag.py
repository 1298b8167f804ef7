"""Bags with truth: annotated folders written into them and read back, by the topics' usual names or by given ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from perception.bag.frames import open_frames
from perception.bag.labelled import open_labelled
from perception.bag.make_bag import labelled_frames, write_frames_bag
from perception.bag.messages import deserialize
from perception.bag.reader import BagFrames, camera_topics
from perception.bag.recording import open_recording
from perception.bag.scene_messages import write_label_info, write_true_boxes
from perception.bag.truth_topics import BagTruth, TruthTopics, camera_namespace, find_truth_topics
from perception.bag.vision_messages import VISION_MESSAGES
from perception.bag.writer import BagWriter
from perception.cli import main
from perception.errors import ConfigError, DatasetError, RecordingError
from perception.interfaces import GroundTruth, LabelClass
from perception.labels import CITYSCAPES_11_3, load_label_space
from perception.truth.index_maps import ImageSize
from tests.bag.drawn_bags import FIRST_NS, draw_frame
from tests.training.data.drawn_layouts import HW, coco_content, draw_camvid, draw_cityscapes, write_json, write_picture

DEFINITIONS = Path(__file__).parents[2] / 'perception_ws' / 'vision_msgs' / 'msg'
# As ros-jazzy-vision-msgs 4.1 installs them.
HASHES = {
    'vision_msgs/msg/Detection2DArray': 'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'vision_msgs/msg/LabelInfo': 'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
}


@pytest.fixture(params=['camvid', 'cityscapes'])
def labelled(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (draw_camvid if request.param == 'camvid' else draw_cityscapes)(tmp_path / 'data')
    return tmp_path / 'data'


def make_bag(labelled: Path, bag: Path) -> list[GroundTruth]:
    """Write the folder into a bag; returns the truth that went in."""
    frames, truth = labelled_frames(open_labelled(labelled), 10.0)
    written: list[GroundTruth] = []

    def remember(frame: object) -> GroundTruth | None:
        known = truth(frame)  # type: ignore[arg-type]
        assert known is not None
        written.append(known)
        return known

    summary = write_frames_bag(frames, bag, encoding='png', truth=remember, progress=False)
    assert (summary.frames, summary.annotated) == (3, 3)
    return written


def assert_equal(found: GroundTruth | None, wanted: GroundTruth) -> None:
    assert found is not None
    for name in ('boxes_xyxy', 'labels', 'ignore_boxes_xyxy', 'mask'):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def test_truth_comes_back_as_it_went_in(labelled: Path, tmp_path: Path) -> None:
    written = make_bag(labelled, tmp_path / 'bag')
    assert camera_topics(tmp_path / 'bag') == ['/camera/image/compressed']
    source = BagFrames(tmp_path / 'bag')
    topics = find_truth_topics(source.path, source.topic)
    assert topics == TruthTopics(mask='/camera/truth/mask/compressed', detections='/camera/truth/detections')
    truth = BagTruth(source.path, topics, CITYSCAPES_11_3)
    for frame, wanted in zip(source, written, strict=True):
        assert_equal(truth.at(frame.stamp_ns), wanted)
    assert truth.at(10**12) is None


def test_type_hashes_and_latched_labels_are_those_of_vision_msgs(labelled: Path, tmp_path: Path) -> None:
    make_bag(labelled, tmp_path / 'bag')
    information = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    topics = {entry['topic_metadata']['name']: entry for entry in information['topics_with_message_count']}
    assert {name: entry['message_count'] for name, entry in topics.items()} == {
        '/camera/image/compressed': 3,
        '/camera/camera_info': 3,
        '/camera/truth/mask/compressed': 3,
        '/camera/truth/detections': 3,
        '/camera/truth/mask/label_info': 1,
        '/camera/truth/detections/label_info': 1,
    }
    for entry in topics.values():
        topic = entry['topic_metadata']
        if topic['type'] in HASHES:
            assert topic['type_description_hash'] == HASHES[topic['type']]
    (qos,) = topics['/camera/truth/mask/label_info']['topic_metadata']['offered_qos_profiles']
    assert qos['durability'] == 'transient_local'
    with open_recording(tmp_path / 'bag') as recording:
        found = list(recording.messages([topic for topic in recording.topics if topic.name == '/camera/camera_info']))
        assert len(found) == 3
        for message in found:
            info = deserialize(tmp_path / 'bag', message)
            assert (info.height, info.width) == HW
            assert not info.k.any()


@pytest.mark.parametrize('name', list(VISION_MESSAGES))
def test_definitions_are_those_of_our_package(name: str) -> None:
    lines = (DEFINITIONS / f'{name.rpartition("/")[2]}.msg').read_text().splitlines()
    assert VISION_MESSAGES[name].splitlines() == [line for line in lines if line and not line.startswith('#')]


def test_truth_that_was_recorded_before_or_behind_its_frame_is_found(tmp_path: Path) -> None:
    wanted = {}
    with BagWriter(tmp_path / 'bag') as writer:
        for index in (1, 0, 2, 4, 3):  # boxes of later frames come first
            frame = draw_frame(index)
            boxes = np.array([[index, 0, index + 5, 9]], np.float32)
            wanted[frame.stamp_ns] = GroundTruth(boxes_xyxy=boxes, labels=np.array([1]))
            write_true_boxes(writer, '/boxes', wanted[frame.stamp_ns], frame.stamp_ns)
    truth = BagTruth(tmp_path / 'bag', TruthTopics(detections='/boxes'), CITYSCAPES_11_3)
    for index in range(5):
        stamp_ns = draw_frame(index).stamp_ns
        found = truth.at(stamp_ns)
        assert found is not None
        np.testing.assert_array_equal(found.boxes_xyxy, wanted[stamp_ns].boxes_xyxy)


def test_ids_are_read_by_the_names_in_the_bag(tmp_path: Path) -> None:
    theirs = [LabelClass(name=name, color_rgb=(0, 0, 0)) for name in ('tram', 'person/rider')]
    with BagWriter(tmp_path / 'bag') as writer:
        write_label_info(writer, '/boxes/label_info', theirs, FIRST_NS, threshold=0.0, masks=False)
        truth = GroundTruth(boxes_xyxy=np.float32([[0, 0, 4, 4], [1, 1, 7, 9]]), labels=np.array([0, 1]))
        write_true_boxes(writer, '/boxes', truth, FIRST_NS)
    found = BagTruth(tmp_path / 'bag', TruthTopics(detections='/boxes'), CITYSCAPES_11_3).at(FIRST_NS)
    assert found is not None
    assert found.labels is not None
    assert found.labels.tolist() == [1]  # the tram is none of our classes
    np.testing.assert_array_equal(found.boxes_xyxy, [[1, 1, 7, 9]])


def test_classes_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    theirs = [LabelClass(name='tram', color_rgb=(0, 0, 0))]
    with BagWriter(tmp_path / 'bag') as writer:
        write_label_info(writer, '/boxes/label_info', theirs, FIRST_NS, threshold=0.0, masks=False)
        write_true_boxes(writer, '/boxes', GroundTruth(boxes_xyxy=np.zeros((0, 4)), labels=np.zeros(0)), FIRST_NS)
    with pytest.raises(DatasetError, match='classes tram, and the network car/truck/bus'):
        BagTruth(tmp_path / 'bag', TruthTopics(detections='/boxes'), CITYSCAPES_11_3)


def test_an_unknown_id_spoils_its_own_frame_only(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for index, value in enumerate((0, 77, 255)):
            png = cv2.imencode('.png', np.full((4, 6), value, np.uint8))[1].tobytes()
            writer.write_mask('/mask', png, FIRST_NS + index)
    truth = BagTruth(tmp_path / 'bag', TruthTopics(mask='/mask'), CITYSCAPES_11_3)
    assert truth.at(FIRST_NS) is not None
    with pytest.raises(DatasetError, match=rf'/mask at {FIRST_NS + 1} ns: Mask id 77'):
        truth.at(FIRST_NS + 1)
    found = truth.at(FIRST_NS + 2)
    assert found is not None
    assert found.mask is not None
    assert (found.mask == 255).all()


def test_a_missing_truth_topic_is_answered_with_those_there_are(labelled: Path, tmp_path: Path) -> None:
    make_bag(labelled, tmp_path / 'bag')
    with pytest.raises(RecordingError, match=r"nothing on '/boxes'.*type: /camera/truth/detections"):
        find_truth_topics(tmp_path / 'bag', '/camera/image', detections='/boxes')
    assert find_truth_topics(tmp_path / 'bag', '/rear/image') is None


@pytest.mark.parametrize(
    ('topic', 'camera'),
    [
        ('/camera/image', '/camera'),
        ('/front/image_raw/compressed', '/front'),
        ('/rig/left/image_rect_color', '/rig/left'),
        ('/image', ''),
        ('/cam0', '/cam0'),
    ],
)
def test_the_namespace_of_a_camera(topic: str, camera: str) -> None:
    assert camera_namespace(topic) == camera


def test_a_folder_without_annotations_and_a_missing_split_are_named(tmp_path: Path) -> None:
    (tmp_path / 'pictures').mkdir()
    with pytest.raises(DatasetError, match='pictures; expected gtFine'):
        open_labelled(tmp_path)
    draw_camvid(tmp_path / 'data')
    draw_camvid(tmp_path / 'data', 'val')
    with pytest.raises(DatasetError, match=r'2 splits; name one\. There are: train, val'):
        open_labelled(tmp_path / 'data')
    with pytest.raises(DatasetError, match="no split 'test'"):
        open_labelled(tmp_path / 'data', 'test')


def test_a_missing_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=f'There is no folder {tmp_path / "nowhere"}; '):
        open_labelled('nowhere')


def test_an_annotation_without_its_image_is_named(labelled: Path) -> None:
    folder = open_labelled(labelled)
    assert folder.files[1].image is not None
    folder.files[1].image.unlink()
    with pytest.raises(DatasetError, match=rf'{folder.files[1].annotation.name} has no image'):
        labelled_frames(open_labelled(labelled), 10.0)


def test_annotations_come_in_the_order_in_which_a_person_counts(tmp_path: Path) -> None:
    for city, number in (('b_10', 1), ('b_9', 12), ('b_9', 2), ('b_9', 1)):
        folder = tmp_path / 'gtFine' / 'val' / city
        write_picture(folder / f'frame_{number}_gtFine_labelIds.png', np.full(HW, 7, np.uint8))
    found = [(file.annotation.parent.name, file.stem) for file in open_labelled(tmp_path).files]
    assert found == [('b_9', 'frame_1'), ('b_9', 'frame_2'), ('b_9', 'frame_12'), ('b_10', 'frame_1')]


def test_masks_in_cityscapes_layout_are_truth_without_any_instances(tmp_path: Path) -> None:
    draw_cityscapes(tmp_path)
    instances = sorted(tmp_path.glob('gtFine/*/*/*_instanceIds.png'))
    instances[0].unlink()
    folder = open_labelled(tmp_path)
    assert folder.remark == ''
    with pytest.raises(DatasetError, match=r'instanceIds\.png is missing'):
        folder.files[0].read(ImageSize('image', HW))
    for path in instances[1:]:
        path.unlink()
    folder = open_labelled(tmp_path)
    assert folder.remark == 'masks only'
    truth = folder.files[0].read(ImageSize('image', HW))
    assert truth.mask is not None
    assert truth.boxes_xyxy is None


def test_images_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    draw_camvid(tmp_path, 'test', 3)
    images = sorted((tmp_path / 'test').iterdir())
    images[1].write_bytes(b'junk')
    frames, truth = labelled_frames(open_labelled(tmp_path), 10.0)
    summary = write_frames_bag(frames, tmp_path / 'bag', truth=truth, progress=False)
    assert (summary.frames, summary.annotated, summary.skipped) == (2, 2, 1)
    assert str(summary).endswith('; 1 DAMAGED ONES ARE LEFT OUT')


def test_stamps_are_read_out_of_names(tmp_path: Path) -> None:
    write_picture(tmp_path / 'testannot' / f'frame_{FIRST_NS}.png', np.zeros(HW, np.uint8))
    folder = open_labelled(tmp_path)
    assert folder.stamped
    assert folder.files[0].stamp_ns == FIRST_NS
    draw_camvid(tmp_path / 'data')
    assert not open_labelled(tmp_path / 'data').stamped


def test_contents_are_all_that_truth_is_read_from(labelled: Path) -> None:
    folder = open_labelled(labelled)
    images = {file.image for file in folder.files}
    # Annotations of objects lie beside those of classes.
    pictures = {path for path in labelled.rglob('*.png') if path not in images}
    assert pictures
    assert set(folder.contents) == pictures


def test_equal_names_in_two_folders_keep_their_truth(tmp_path: Path) -> None:
    for place, ids in (('one', 3), ('two', 4)):
        write_picture(tmp_path / 'data' / 'test' / place / '0001.v2.jpg', np.full((*HW, 3), ids, np.uint8))
        write_picture(tmp_path / 'data' / 'testannot' / place / '0001.v2.png', np.full(HW, ids, np.uint8))
    folder = open_labelled(tmp_path / 'data')
    assert [str(file.name) for file in folder.files] == ['one/0001.v2', 'two/0001.v2']
    frames, truth = labelled_frames(folder, 10.0)
    masks = [known.mask for known in map(truth, frames) if known is not None]
    assert [int(mask[0, 0]) for mask in masks if mask is not None] == [0, 7]


def test_two_images_of_one_annotation_are_named(tmp_path: Path) -> None:
    draw_camvid(tmp_path, 'test', 2)
    image = sorted((tmp_path / 'test').iterdir())[1]
    image.with_suffix('.jpg').write_bytes(image.read_bytes())
    with pytest.raises(DatasetError, match=rf'{image.stem}\.jpg and .*{image.stem}\.png have one annotation'):
        labelled_frames(open_labelled(tmp_path), 10.0)


@pytest.mark.parametrize(
    ('annotations', 'images', 'given', 'split'),
    [
        ('test.json', 'images/test', '', 'test'),
        ('annotations/instances_val2017.json', 'val2017', '', 'val'),
        ('annotations/instances_default.json', 'images', '', ''),
        ('annotations/instances_default.json', 'images/default', 'annotations/instances_default.json', ''),
        ('train/_annotations.coco.json', 'train', 'train', ''),
    ],
)
def test_boxes_alone_make_a_bag(tmp_path: Path, annotations: str, images: str, given: str, split: str) -> None:
    root = tmp_path / 'data'
    named = 'images/test/' if annotations == 'test.json' else ''
    write_json(root / annotations, coco_content(3, ('vehicle', 'person', 'two_wheeler'), named))
    for number in range(3):
        write_picture(root / images / f'{number:03d}.png', np.full((*HW, 3), number, np.uint8))
    frames, truth = labelled_frames(open_labelled(root / given, split), 10.0)
    write_frames_bag(frames, tmp_path / 'bag', encoding='png', truth=truth, progress=False)
    topics = find_truth_topics(tmp_path / 'bag', '/camera/image/compressed')
    assert topics == TruthTopics(detections='/camera/truth/detections')
    found = BagTruth(tmp_path / 'bag', topics, CITYSCAPES_11_3).at(0)
    assert found is not None
    assert found.mask is None
    np.testing.assert_array_equal(found.boxes_xyxy, [[4, 5, 24, 15], [50, 20, 64, 30]])
    np.testing.assert_array_equal(found.labels, [0, 1])
    np.testing.assert_array_equal(found.ignore_boxes_xyxy, [[0, 30, 12, 38]])
    np.testing.assert_array_equal(found.ignore_labels, [2])


def test_categories_of_boxes_are_ones_own(tmp_path: Path) -> None:
    write_json(tmp_path / 'boxes.json', coco_content(1, ('van', 'walker', 'cow')))
    folder = open_labelled(tmp_path / 'boxes.json', classes={'van': 'car/truck/bus'})
    assert folder.remark == 'boxes only (van as car/truck/bus; not scored: walker, cow)'
    assert folder.contents == [tmp_path / 'boxes.json']
    with pytest.raises(DatasetError, match="is one file, which has no split 'test'"):
        open_labelled(tmp_path / 'boxes.json', 'test')
    draw_camvid(tmp_path / 'masks')
    with pytest.raises(ConfigError, match=r'names are for the categories of a COCO file.*CSV or YAML file'):
        open_labelled(tmp_path / 'masks', classes={'van': 'car/truck/bus'})


def test_two_files_of_one_split_are_told_apart(tmp_path: Path) -> None:
    for name, frames in (('val.json', 1), ('annotations/instances_val2017.json', 2)):
        write_json(tmp_path / name, coco_content(frames, ('car', 'person', 'bicycle')))
    assert len(open_labelled(tmp_path, 'val').files) == 1
    assert len(open_labelled(tmp_path, 'instances_val2017').files) == 2
    (tmp_path / 'truth.mcap').touch()
    with pytest.raises(DatasetError, match=r'truth\.mcap is no data set; expected a folder with gtFine'):
        open_labelled(tmp_path / 'truth.mcap')


def test_a_split_without_annotations_is_named_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / 'camvid' / 'testannot').mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"Split 'test' holds no annotation: expected .*testannot/<name>\.png"):
        open_labelled(tmp_path / 'camvid')
    (tmp_path / 'cityscapes' / 'gtFine' / 'val').mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"'val' holds no annotation: expected .*val/<city>/<stem>_gtFine_labelIds"):
        open_labelled(tmp_path / 'cityscapes')


def test_the_truth_of_other_classes_goes_into_a_bag(tmp_path: Path) -> None:
    draw_camvid(tmp_path / 'masks')
    labels = load_label_space('camvid_11')
    options = ['--labelled', '--labels', 'camvid_11', '--encoding', 'png']
    assert main(['make-bag', str(tmp_path / 'masks'), str(tmp_path / 'bag'), *options]) == 0
    topics = find_truth_topics(tmp_path / 'bag', '/camera/image/compressed')
    assert topics is not None
    truth = BagTruth(tmp_path / 'bag', topics, labels)
    found = [truth.at(frame.stamp_ns) for frame in open_frames(tmp_path / 'bag')]
    expected = [file.read(ImageSize('a', HW)) for file in open_labelled(tmp_path / 'masks', labels=labels).files]
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert one.mask is not None
        assert one.labels is not None
        assert other.mask is not None
        assert other.labels is not None
        assert (one.mask == other.mask).all()
        assert one.labels.tolist() == other.labels.tolist()
