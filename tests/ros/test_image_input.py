"""The image subscription over the real middleware: its topic, what is lost on the way, and why nothing comes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
import rclpy
from rclpy import event_handler
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from perception.ros.fast_dds import PROFILE_VARIABLES
from perception.ros.image_input import ImageInput, image_topic
from perception.ros.node_process import NodeProcess
from perception.ros.statistics import CameraStatistics
from tests.ros.user_node import RELIABLE, UserNode

pytestmark = pytest.mark.ros


@contextmanager
def node_with(*arguments: str, name: str = 'hearing', namespace: str = '/camera') -> Iterator[Node]:
    node = rclpy.create_node(name, namespace=namespace, cli_args=['--ros-args', *arguments])
    try:
        yield node
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    ('remaps', 'raw', 'compressed'),
    [
        ((), '/camera/image', '/camera/image/compressed'),
        (('image:=image_raw',), '/camera/image_raw', '/camera/image_raw/compressed'),
        (('image:=/front/image',), '/front/image', '/front/image/compressed'),
        (('/camera/image:=/front/image',), '/front/image', '/front/image/compressed'),
        (('image/compressed:=/front/jpeg',), '/camera/image', '/front/jpeg'),
        (('image:=/front/image', 'image/compressed:=jpeg'), '/front/image', '/camera/jpeg'),
        (('image:=/front/image', '/front/image/compressed:=/front/jpeg'), '/front/image', '/front/jpeg'),
        (('image:=image_raw', 'image_raw:=image'), '/camera/image_raw', '/camera/image_raw/compressed'),
    ],
)
def test_compressed_follows_the_remap_of_its_base(
    user: UserNode, remaps: tuple[str, ...], raw: str, compressed: str
) -> None:
    with node_with(*(part for remap in remaps for part in ('-r', remap))) as node:
        for transport, expected in (('raw', raw), ('compressed', compressed)):
            heard = ImageInput(
                node, lambda message: None, CameraStatistics(), image_transport=transport, input_qos='best_effort'
            )
            assert heard.topic == node.resolve_topic_name(image_topic(node, transport)) == expected
            assert expected in {subscription.topic_name for subscription in node.subscriptions}
            heard.destroy()


def test_frames_that_a_busy_process_does_not_take_are_missing(user: UserNode) -> None:
    """Keep last 1: a newer frame takes the place of one that nobody took; the numbers of the publisher tell."""
    statistics, taken = CameraStatistics(), []
    with node_with('-r', 'image:=busy') as node:
        heard = ImageInput(node, taken.append, statistics, image_transport='raw', input_qos='reliable')
        camera = user.node.create_publisher(Image, 'busy', RELIABLE)

        def hear(height: int) -> None:
            deadline = monotonic() + 60
            while not (taken and taken[-1].height == height):
                assert monotonic() < deadline, f'frame {height} never came'
                rclpy.spin_once(node, timeout_sec=0.1)

        user.wait_until_served(camera)
        camera.publish(Image(height=1))
        hear(1)
        for height in range(2, 22):
            Event().wait(0.005)  # the pace of a camera
            camera.publish(Image(height=height))
            assert camera.wait_for_all_acked(rclpy.duration.Duration(seconds=60))
        hear(21)
        window = statistics.snapshot().window
        assert (window.received, window.missing) == (len(taken), 21 - len(taken))
        assert window.missing > 0
        heard.destroy()
        user.node.destroy_publisher(camera)


def test_a_middleware_that_does_not_report_losses(user: UserNode, monkeypatch: pytest.MonkeyPatch) -> None:
    create = event_handler.SubscriptionEventCallbacks.create_event_handlers

    def refuse(callbacks: event_handler.SubscriptionEventCallbacks, *arguments: object, **options: object) -> object:
        if callbacks.message_lost:
            raise event_handler.UnsupportedEventTypeError('not by this middleware')
        return create(callbacks, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(event_handler.SubscriptionEventCallbacks, 'create_event_handlers', refuse)
    statistics = CameraStatistics()
    with node_with() as node:
        heard = ImageInput(node, lambda message: None, statistics, image_transport='raw', input_qos='best_effort')
        assert statistics.snapshot().lost_at_least
        heard.destroy()


LOSSY_CAMERA = """
import rclpy
from threading import Event
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('lossy_camera')
camera = node.create_publisher(Image, '/camera/image', QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
message = Image(height=1024, width=2048, encoding='rgb8', step=6144)
message.data.frombytes(bytes(6144 * 1024))
while rclpy.ok():
    message.header.stamp = node.get_clock().now().to_msg()
    camera.publish(message)
    Event().wait(1 / 30)
node.destroy_node()
"""


def test_frames_that_the_middleware_loses_are_told_with_the_remedy(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    """A camera driver without our profile: its frames are larger than its shared memory."""
    environment = {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}
    parameters = {'model_path': str(tiny_checkpoint_path)}
    with NodeProcess(namespace='/camera', parameters=parameters, log=tmp_path / 'node.log'):
        user.wait_until_served()
        camera = subprocess.Popen([sys.executable, '-c', LOSSY_CAMERA], env=environment)
        try:
            said = user.told('of the frames are lost before they reach the node: start the camera driver')
            assert 'fastdds_large_images.xml' in said
            assert '--shm-size' in said
            values = user.diagnostics(lambda values: values['lost_share'] != 'n/a')
            assert float(values['lost_share']) > 0.1
            assert values['frames_lost_by_middleware'] != '0'
        finally:
            camera.terminate()  # which takes its topic back
            camera.wait(60)


def why(user: UserNode, *remaps: str, transport: str = 'raw', until: Callable[[str], bool]) -> str:
    """What a subscription says about its silence, as soon as the graph is complete enough for ``until``."""
    with node_with(*(part for remap in remaps for part in ('-r', remap))) as node:
        heard = ImageInput(
            node, lambda message: None, CameraStatistics(), image_transport=transport, input_qos='best_effort'
        )
        try:

            def find() -> str:
                said = heard.why_silent()
                return said if until(said) else ''

            said: str = user.wait_until(find, 'a reason')
            return said
        finally:
            heard.destroy()


def test_nobody_publishes_and_near_names_are_hints(user: UserNode) -> None:
    said = why(user, 'image:=/camera/imag_raw', until=lambda said: '/camera/image (' in said)
    assert said.startswith('/camera/imag_raw (sensor_msgs/msg/Image): nobody publishes there; images are published on ')
    assert '/camera/image (sensor_msgs/msg/Image)' in said
    assert '/camera/image/compressed (sensor_msgs/msg/CompressedImage)' in said


def test_compressed_twice(user: UserNode) -> None:
    said = why(user, 'image:=image/compressed', transport='compressed', until=lambda said: 'nobody' in said)
    assert said.startswith('/camera/image/compressed/compressed (sensor_msgs/msg/CompressedImage): nobody publishes')
    assert '(image_transport appends /compressed by itself: remap image:=/camera/image)' in said


@pytest.mark.parametrize(
    ('message_type', 'topic', 'remap', 'transport', 'advice'),
    [
        (CompressedImage, '/a/jpeg', 'image:=/a/jpeg', 'raw', 'compressed and remap image/compressed:=/a/jpeg'),
        (CompressedImage, '/a/b/compressed', 'image:=/a/b/compressed', 'raw', 'compressed and remap image:=/a/b'),
        (Image, '/a/raw', 'image/compressed:=/a/raw', 'compressed', 'raw and remap image:=/a/raw'),
        (String, '/a/text', 'image:=/a/text', 'raw', 'which are no images: remap image to a topic of images'),
    ],
)
def test_the_wrong_type_is_named_with_what_to_set(
    user: UserNode, message_type: type, topic: str, remap: str, transport: str, advice: str
) -> None:
    publisher = user.node.create_publisher(message_type, topic, 1)
    # Fast DDS lets one process hold one type a topic: the node hears it from another.
    said = run_elsewhere(user, remap, transport)
    user.node.destroy_publisher(publisher)
    package = 'std_msgs' if message_type is String else 'sensor_msgs'
    assert f'/camera/user publishes {package}/msg/{message_type.__name__} there' in said
    assert advice in said
    assert said.startswith(f'{topic} (sensor_msgs/msg/')


def run_elsewhere(user: UserNode, remap: str, transport: str) -> str:
    """``why_silent`` in a participant of its own, once it has heard of ours."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('hearing', namespace='/camera', context=context, cli_args=['--ros-args', '-r', remap])
    try:
        heard = ImageInput(
            node, lambda message: None, CameraStatistics(), image_transport=transport, input_qos='best_effort'
        )

        def find() -> str:
            said = heard.why_silent()
            return said if '/camera/user' in said else ''

        said: str = user.wait_until(find, 'the publisher to be discovered')
        return said
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_a_publisher_that_sends_nothing_is_named(user: UserNode) -> None:
    said = why(user, until=lambda said: '/camera/user' in said)
    assert said.startswith(
        '/camera/image (sensor_msgs/msg/Image): /camera/user publishes there, but sends nothing, or '
    )
    assert 'fastdds_large_images.xml' in said
