"""The player beside a stand-in for the node: whose counts it believes, and what it says of a node that is not there."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, VisionInfo

from perception.errors import PerceptionError
from perception.interfaces import Detections
from perception.labels import CITYSCAPES_11_3
from perception.ros import player as player_module
from perception.ros.conversions import detections_message, image_message, label_info_message
from perception.ros.demo_summary import print_summary, summarise
from perception.ros.player import FramePlayer
from tests.ros.user_node import LATCHED, TIMEOUT_S, UserNode

pytestmark = pytest.mark.ros

IMAGE = np.zeros((4, 6, 3), np.uint8)
SOURCE: Any = SimpleNamespace(path=Path('drive'), skipped=Counter())


def nothing() -> None:
    """There is no process to watch."""


@pytest.fixture
def player(user: UserNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[FramePlayer]:
    monkeypatch.setattr(player_module, 'IN_FLIGHT_TIMEOUT_S', 0.1)
    monkeypatch.setattr(player_module, 'REPORT_TIMEOUT_S', TIMEOUT_S)
    player = FramePlayer('/camera')
    yield player
    player.close()


class Reporter:
    """Publishes what a node in /camera would report, once it is told to or whenever it is called."""

    def __init__(self, user: UserNode, **counts: int) -> None:
        self._user = user
        self._publisher = user.node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.counts = counts
        user.wait_until(lambda: self._publisher.get_subscription_count() == 2, 'user and player to listen')

    def __call__(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self._user.node.get_clock().now().to_msg()
        # That of another camera stands behind ours: the last one must not win.
        for namespace, values in (('/camera', self.counts), ('/rear', {'frames_received': 99})):
            status = DiagnosticStatus(name=f'{namespace}/camera_node: camera pipeline')
            status.values = [KeyValue(key=key.replace('__', '.'), value=str(value)) for key, value in values.items()]
            message.status.append(status)
        self._publisher.publish(message)


def counted(player: FramePlayer) -> dict[str, Any]:
    summary = summarise(player, SOURCE, seconds=1.0, pictures=[], interrupted='a signal')
    print_summary(summary, Path('out'), ['summary.json', 'node.log'])
    return {name: summary['frames'][name] for name in ('received', 'published', 'dropped', 'lost_on_the_way')}


def test_counts_older_than_the_last_frame_are_unknown(
    user: UserNode, player: FramePlayer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter(user, frames_received=1, frames_published=1)
    player.send(player.prepare(IMAGE))
    reporter()
    assert player.spin_until(lambda: bool(player.reports.latest), TIMEOUT_S, nothing)
    player.send(player.prepare(IMAGE))
    monkeypatch.setattr(player_module, 'REPORT_TIMEOUT_S', 0.1)
    player.await_final_report(nothing)
    assert counted(player) == {'received': None, 'published': None, 'dropped': None, 'lost_on_the_way': None}
    rows = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.count(' ') > 1)
    assert rows['unanswered'] == '2'
    assert rows['dropped by the node'] == rows['lost on the way to the node'] == 'unknown'

    monkeypatch.setattr(player_module, 'REPORT_TIMEOUT_S', TIMEOUT_S)
    player.await_final_report(reporter)
    assert counted(player) == {'received': 1, 'published': 1, 'dropped': {}, 'lost_on_the_way': 1}


def test_what_was_answered_is_not_lost(user: UserNode, player: FramePlayer) -> None:
    # Frames whose stamps are told apart, and a node that has not counted the last one yet.
    for _ in range(3):
        player.answers[player.send(player.prepare(IMAGE))].latency_ms.update(detections=1.0, mask=1.0)
    player.await_final_report(Reporter(user, frames_received=2, frames_published=2))
    assert counted(player)['lost_on_the_way'] == 0


def test_what_a_running_node_counted_before_is_not_of_this_run(user: UserNode, player: FramePlayer) -> None:
    reporter = Reporter(user, frames_received=7, frames_published=4, dropped__superseded=3)
    player.await_first_report(reporter)
    player.send(player.prepare(IMAGE))
    reporter.counts = {'frames_received': 8, 'frames_published': 4, 'dropped__superseded': 3, 'dropped__too_old': 1}
    player.await_final_report(reporter)
    assert counted(player) == {'received': 1, 'published': 0, 'dropped': {'too_old': 1}, 'lost_on_the_way': 0}
    reporter.counts = {'frames_received': 1}  # activated anew
    player.await_final_report(reporter)
    assert counted(player)['received'] is None


def test_a_node_that_is_not_there_is_answered_with_those_there_are(
    user: UserNode, player: FramePlayer, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint() -> str:
        with pytest.raises(PerceptionError) as raised:
            player.wait_for_node(nothing, 0.1)
        return str(raised.value)

    def seen() -> bool:
        return 'camera_node' in player.node.get_node_names()

    domain = f'with ROS_DOMAIN_ID {player.node.context.get_domain_id()}'
    assert f'No camera_node was active in /camera within 0.1 s, {domain}. There is none' in complaint()
    assert 'waiting for camera_node in /camera (up to 0.1 s) ...' in capsys.readouterr().err

    rear = rclpy.create_node('camera_node', namespace='/rear')
    assert player.spin_until(seen, TIMEOUT_S, nothing)
    assert 'There is one in /rear: name that namespace.' in complaint()
    rear.destroy_node()
    assert player.spin_until(lambda: not seen(), TIMEOUT_S, nothing)

    there = rclpy.create_node('camera_node', namespace='/camera')
    assert player.spin_until(seen, TIMEOUT_S, nothing)
    assert 'The one there (no report yet) does not listen to /camera/image or /camera/image/compressed:' in complaint()
    there.destroy_node()


def test_a_node_that_has_gone_is_not_waited_for(user: UserNode, player: FramePlayer) -> None:
    there = rclpy.create_node('some_camera', namespace='/camera')
    results = [there.create_publisher(Detection2DArray, 'detections', 5)]
    results.append(there.create_publisher(Image, 'segmentation/mask', 5))
    there.create_publisher(VisionInfo, 'vision_info', LATCHED).publish(VisionInfo(method='net@1'))
    there.create_subscription(Image, 'image', lambda message: None, 1)
    player.wait_for_node(nothing, TIMEOUT_S)
    player.send(player.prepare(IMAGE))
    there.destroy_node()

    def check() -> None:
        assert time.monotonic() < begun + TIMEOUT_S / 2, 'it waits for a report that cannot come'

    begun = time.monotonic()
    player.settle(check)
    player.await_final_report(check)
    assert counted(player)['received'] is None


class Listener:
    """A player that collects scenes, and what a node would answer it."""

    def __init__(self) -> None:
        self.scenes: list[tuple[int, Detections, np.ndarray]] = []
        self.player = FramePlayer('/camera', on_scene=lambda *scene: self.scenes.append(scene))
        stamp = self.player.node.get_clock().now().to_msg()
        self.player.label_infos['detections'] = label_info_message(CITYSCAPES_11_3.detection, stamp, 0.3)

    def send(self) -> Header:
        outgoing = self.player.prepare(IMAGE)
        self.player.send(outgoing)
        return outgoing.message.header

    def answer(self, output: str, message: Any, *, received_ns: int = 0) -> None:
        getattr(self.player, f'_on_{output}')(message, {'received_timestamp': received_ns})


@pytest.fixture
def listener(user: UserNode) -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.player.close()


def a_car(header: Header, class_id_format: str) -> Detection2DArray:
    found = Detections(
        boxes_xyxy=np.array([[1, 1, 3, 2]], np.float32), scores=np.array([0.5], np.float32), labels=np.array([1])
    )
    return detections_message(found, header, CITYSCAPES_11_3.detection, class_id_format)


@pytest.mark.parametrize('class_id_format', ['id', 'name'])
def test_a_scene_is_whole_whatever_class_ids_look_like(listener: Listener, class_id_format: str) -> None:
    header = listener.send()
    listener.answer('detections', a_car(header, class_id_format))
    assert listener.scenes == []
    listener.answer('mask', image_message(IMAGE[..., 0], header))
    ((index, detections, mask),) = listener.scenes
    assert index == 0
    assert detections.labels.tolist() == [1]
    assert detections.boxes_xyxy.tolist() == [[1, 1, 3, 2]]
    assert mask.shape == IMAGE.shape[:2]


def test_a_class_that_the_node_has_not_declared_is_a_finding_and_not_the_end(listener: Listener) -> None:
    header = listener.send()
    strange = a_car(header, 'name')
    strange.detections[0].results[0].hypothesis.class_id = 'unicorn'
    listener.answer('mask', image_message(IMAGE[..., 0], header))
    listener.answer('detections', strange)
    assert listener.scenes == []
    (finding,) = listener.player.unexpected
    assert finding.startswith("A detection of class 'unicorn' came; LabelInfo says: 0, ")


def test_latency_ends_when_the_middleware_had_the_answer(listener: Listener) -> None:
    header = listener.send()
    (answer,) = listener.player.answers.values()
    listener.answer('detections', Detection2DArray(header=header), received_ns=answer.sent_ns + 5_000_000)
    assert answer.latency_ms['detections'] == 5
    listener.answer('mask', image_message(IMAGE[..., 0], header))  # of a middleware that does not say when
    assert 0 < answer.latency_ms['mask'] < 1000 * TIMEOUT_S


def test_latency_begins_when_a_frame_is_sent_and_not_when_it_is_encoded(listener: Listener) -> None:
    outgoing = listener.player.prepare(IMAGE)
    encoded_ns = listener.player.node.get_clock().now().nanoseconds
    assert listener.player.send(outgoing) >= encoded_ns


def test_halves_of_scenes_that_never_become_whole_are_forgotten(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr('perception.ros.awaited.monotonic', lambda: now[0])
    for _ in range(30):
        listener.answer('detections', Detection2DArray(header=listener.send()))
        now[0] += 1
    assert len(listener.player._halves) == player_module.ANSWER_TIMEOUT_S + 1


def test_a_node_is_sent_what_it_listens_to_and_heard_as_it_offers(user: UserNode, player: FramePlayer) -> None:
    there = rclpy.create_node('some_camera', namespace='/camera')
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    results = {
        'detections': there.create_publisher(Detection2DArray, 'detections', best_effort),
        'mask': there.create_publisher(Image, 'segmentation/mask', best_effort),
    }
    model = there.create_publisher(VisionInfo, 'vision_info', LATCHED)
    model.publish(VisionInfo(method='net@1'))
    images: list[CompressedImage] = []
    there.create_subscription(CompressedImage, 'image/compressed', images.append, 1)
    recorder = user.node.create_subscription(Image, 'image', lambda message: None, 1)
    player.wait_for_node(nothing, TIMEOUT_S)
    stamp_ns = player.send(player.prepare(IMAGE))

    def serve() -> None:
        rclpy.spin_once(there, timeout_sec=0)
        for image in images:
            results['detections'].publish(Detection2DArray(header=image.header))
            results['mask'].publish(image_message(IMAGE[..., 0], image.header))

    assert player.spin_until(lambda: player.is_answered(stamp_ns), TIMEOUT_S, serve)
    user.node.destroy_subscription(recorder)
    there.destroy_node()
