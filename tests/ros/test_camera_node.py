"""The node in a second process, seen through the middleware as a user sees it."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from perception.checkpoint import load_checkpoint
from perception.drawing import color_mask
from perception.image_messages import decode_image
from perception.labels import CITYSCAPES_11_3
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from perception.ros.node_process import NodeProcess
from tests.ros.user_node import UserNode, draw_image, raw_message

pytestmark = pytest.mark.ros

THRESHOLD = 0.2


@pytest.fixture(scope='module')
def node(user: UserNode, tiny_checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    parameters = {'model_path': str(tiny_checkpoint_path), 'score_threshold': THRESHOLD}
    log = tmp_path_factory.mktemp('node') / 'node.log'
    with NodeProcess(namespace='/camera', parameters=parameters, log=log) as process:
        user.wait_until_served()
        user.state()  # from here on the node knows its user, too
        yield process
        process.check_alive()
        assert 'Traceback' not in log.read_text()


@pytest.fixture(scope='module')
def perceiver(tiny_checkpoint_path: Path) -> Perceiver:
    """What the node should say, asked without ROS."""
    return Perceiver(load_checkpoint(tiny_checkpoint_path), config=PostprocessConfig(score_threshold=THRESHOLD))


def test_answers_hold_what_the_perceiver_sees(user: UserNode, node: NodeProcess, perceiver: Perceiver) -> None:
    image = draw_image()
    message = raw_message(image)
    detections, mask = user.ask(message)
    expected = perceiver(image)

    assert mask.header == message.header
    assert (mask.height, mask.width, mask.encoding, mask.step) == (90, 151, 'mono8', 151)
    assert np.array_equal(np.frombuffer(mask.data, np.uint8).reshape(90, 151), expected.mask)

    assert detections.header == message.header
    assert len(detections.detections) == len(expected.detections) > 0
    for detection, box, score, label in zip(
        detections.detections,
        expected.detections.boxes_xyxy,
        expected.detections.scores,
        expected.detections.labels,
        strict=True,
    ):
        assert detection.header == message.header
        (result,) = detection.results
        assert result.hypothesis.class_id == str(label)
        assert result.hypothesis.score == pytest.approx(float(score), abs=1e-5)
        center, half = detection.bbox.center.position, (detection.bbox.size_x / 2, detection.bbox.size_y / 2)
        corners = (center.x - half[0], center.y - half[1], center.x + half[0], center.y + half[1])
        assert corners == pytest.approx(box.tolist(), abs=1e-2)
        assert detection.bbox.center.theta == 0


def test_qos_of_the_published_topics(user: UserNode, node: NodeProcess) -> None:
    """As docs/ros_interface.md promises; the middleware says what is offered."""
    for topic, latched in [
        ('detections', False),
        ('segmentation/mask', False),
        ('detections/label_info', True),
        ('segmentation/label_info', True),
        ('vision_info', True),
    ]:
        (offered,) = user.node.get_publishers_info_by_topic(f'/camera/{topic}')
        assert offered.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        expected = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        assert offered.qos_profile.durability == expected
    (asked,) = user.node.get_subscriptions_info_by_topic('/camera/image')
    assert asked.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_label_infos_explain_the_ids(user: UserNode, node: NodeProcess, perceiver: Perceiver) -> None:
    detection_labels = user.wait_for('detections/label_info')
    mask_labels = user.wait_for('segmentation/label_info')
    names = [entry.class_name for entry in mask_labels.class_map]
    assert names == [*(label.name for label in CITYSCAPES_11_3.segmentation), 'unlabelled']
    assert [entry.class_id for entry in mask_labels.class_map] == [*range(11), 255]
    assert [entry.class_name for entry in detection_labels.class_map] == [c.name for c in CITYSCAPES_11_3.detection]
    info = user.wait_for('vision_info')
    assert info.method == perceiver.checkpoint.title
    assert info.database_location == str(perceiver.checkpoint.path)
    assert info.database_version == 1


@pytest.mark.parametrize(
    ('encoding', 'code', 'padding'),
    [
        ('rgb8', None, 5),
        ('bgr8', cv2.COLOR_RGB2BGR, 0),
        ('rgba8', cv2.COLOR_RGB2RGBA, 3),
        ('bgra8', cv2.COLOR_RGB2BGRA, 0),
        ('8UC3', cv2.COLOR_RGB2BGR, 0),
    ],
)
def test_every_colour_order_gives_the_same_mask(
    user: UserNode, node: NodeProcess, perceiver: Perceiver, encoding: str, code: int | None, padding: int
) -> None:
    image = draw_image(seed=3)
    pixels = image if code is None else cv2.cvtColor(image, code)
    _, mask = user.ask(raw_message(pixels, encoding, padding))
    assert np.array_equal(decode_image(mask).pixels, perceiver(image).mask)


def _bad_images() -> dict[str, Image]:
    """One message for each reason to refuse it."""
    image = draw_image()
    bad = {
        'unsupported_encoding': raw_message(image, 'hsv_of_the_future'),
        'wrong_step': raw_message(image),
        'wrong_length': raw_message(image),
        'zero_size': raw_message(image),
        'odd_size': raw_message(np.zeros((91, 150), np.uint8), 'nv12'),
    }
    bad['wrong_step'].step = 100
    bad['wrong_length'].data.extend([1, 2, 3])
    bad['zero_size'].height = 0
    return bad


def test_bad_images_are_counted_and_the_next_good_one_is_served(user: UserNode, node: NodeProcess) -> None:
    for message in _bad_images().values():
        user.stamp(message)
        user.images.publish(message)
        # Each is followed by a good one of another size: if that is answered, the bad one did no harm.
        _, mask = user.ask(raw_message(draw_image(61, 83)))
        assert (mask.height, mask.width) == (61, 83)
    # Best effort and newest wins: a bad frame may have been superseded by the good one behind it. Send each until seen.
    for reason, message in _bad_images().items():
        user.stamp(message)
        user.images.publish(message)
        user.diagnostics(lambda values, reason=reason: f'dropped.{reason}' in values)  # type: ignore[misc]
    user.ask(raw_message(draw_image()))


@pytest.mark.parametrize(('sec', 'nanosec'), [(-5, 0), (-(2**31), 7), (3, 2_000_000_000), (0, 0)])
def test_what_is_no_stamp_is_answered_like_any_other(user: UserNode, node: NodeProcess, sec: int, nanosec: int) -> None:
    message = raw_message(draw_image())
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    message.header.frame_id = f'no stamp {sec} {nanosec}'
    detections, mask = user.ask_as_it_is(message)
    assert detections.header == mask.header == message.header
    assert 'dropped.internal_error' not in user.diagnostics()


def test_stamps_in_the_future_are_said_with_how_far(user: UserNode, node: NodeProcess) -> None:
    message = raw_message(draw_image())
    user.stamp(message)
    message.header.stamp.sec += 3600

    def play() -> None:
        user.images.publish(message)

    assert 'stamps are 3' in user.told(' s in the future: synchronise the clocks', meanwhile=play)
    values = user.diagnostics(
        lambda values: float(values['current_delay_from_realtime_ms'].replace('n/a', '1')) < 0, meanwhile=play
    )
    assert values['input_state'] in ('Ok', 'Timeout')


def test_pictures_are_drawn_only_for_those_who_look(user: UserNode, node: NodeProcess, perceiver: Perceiver) -> None:
    image = draw_image(seed=5)
    user.ask(raw_message(image))
    looked_at = ('overlay', 'segmentation/color_mask', 'segmentation/confidence')
    for topic in looked_at:
        user.subscribe(topic)
    for topic in looked_at:
        name = user.node.resolve_topic_name(topic)
        user.wait_until(lambda n=name: user.node.count_publishers(n) == 1, f'{topic} to be matched')

    def look() -> bool:
        user.ask(raw_message(image))
        return all(user.received[topic] for topic in looked_at)

    user.wait_until(look, 'all three pictures')
    expected = perceiver(image, with_confidence=True)
    assert np.array_equal(
        decode_image(user.received['segmentation/color_mask'][-1]).pixels,
        color_mask(expected.mask, CITYSCAPES_11_3.segmentation),
    )
    assert np.array_equal(decode_image(user.received['segmentation/confidence'][-1]).pixels, expected.confidence)
    overlay = user.received['overlay'][-1]
    assert (overlay.height, overlay.width, overlay.encoding) == (90, 151, 'rgb8')
    for topic in looked_at:
        user.unsubscribe(topic)


def test_a_burst_is_answered_with_the_newest_and_every_drop_is_counted(user: UserNode, node: NodeProcess) -> None:
    before = user.diagnostics(lambda values: 'frames_received' in values)
    message = raw_message(draw_image(700, 1300))
    # All at once, but well within the room of the middleware (64 MiB): of what that loses, the newest may be one.
    for _ in range(10):
        last = user.stamp(message)
        user.images.publish(message)
    newest = user.wait_for(
        'detections', lambda answer: answer.header.stamp.sec * 10**9 + answer.header.stamp.nanosec == last
    )
    assert newest.header.frame_id == 'front_camera'

    def accounted(values: dict[str, str]) -> bool:
        received, published, dropped, waiting = (
            int(values[f'frames_{what}']) for what in ('received', 'published', 'dropped', 'waiting')
        )
        assert received == published + dropped + waiting
        assert dropped == sum(int(count) for reason, count in values.items() if reason.startswith('dropped.'))
        return received > int(before['frames_received']) and not waiting

    user.diagnostics(accounted)


def test_thresholds_change_at_run_time(user: UserNode, node: NodeProcess) -> None:
    many, _ = user.ask(raw_message(draw_image()))
    assert user.set_parameter('score_threshold', 1.0) == (True, '')
    none, _ = user.ask(raw_message(draw_image()))
    assert len(many.detections) > 0
    assert len(none.detections) == 0  # an empty array, not silence
    user.wait_for('detections/label_info', lambda info: info.threshold == 1.0)
    assert user.set_parameter('score_threshold', THRESHOLD)[0]
    assert user.set_parameter('class_id_format', 'name')[0]
    named, _ = user.ask(raw_message(draw_image()))
    known = {label.name for label in CITYSCAPES_11_3.detection}
    assert {detection.results[0].hypothesis.class_id for detection in named.detections} <= known
    assert user.set_parameter('class_id_format', 'id')[0]


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('score_threshold', 1.5, 'range'),
        ('class_id_format', 'colour', 'must be one of id, name'),
        ('device', 'cpu', 'read-only'),
        ('max_detections', -1, 'range'),
    ],
)
def test_wrong_values_are_refused_with_the_reason(
    user: UserNode, node: NodeProcess, name: str, value: object, reason: str
) -> None:
    accepted, said = user.set_parameter(name, value)
    assert not accepted
    assert reason in said.lower()


def test_enable_pauses_inference_and_keeps_the_model(user: UserNode, node: NodeProcess) -> None:
    assert user.call(SetBool, 'camera_node/enable', SetBool.Request(data=False)).success
    published = user.diagnostics()['frames_published']
    message = raw_message(draw_image())
    user.stamp(message)
    user.images.publish(message)
    values = user.diagnostics(lambda values: 'dropped.paused' in values)
    assert values['frames_published'] == published
    assert user.call(SetBool, 'camera_node/enable', SetBool.Request(data=True)).success
    user.ask(raw_message(draw_image()))


def test_diagnostics_name_the_state_and_the_times(user: UserNode, node: NodeProcess) -> None:
    values = user.diagnostics(
        lambda values: values['input_state'] == 'Ok' and values['processing_time_ms'] != 'n/a',
        meanwhile=lambda: user.send(raw_message(draw_image())),
    )
    assert values['lifecycle_state'] == 'active'
    stages = [float(values[f'{stage}_time_ms']) for stage in ('preprocess', 'inference', 'postprocess')]
    assert all(stage > 0 for stage in stages)
    assert float(values['processing_time_ms']) >= max(stages)
