"""The node as a robot uses it: remapped, paused, stopped for good, and recorded by those who come late."""

import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from rclpy.exceptions import InvalidParameterValueException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from perception.checkpoint import save_checkpoint
from perception.labels import load_label_space
from perception.ros.camera import Camera
from perception.ros.camera_node import CameraNode
from tests.conftest import build_tiny_network
from tests.ros.node_here import node_here
from tests.ros.user_node import RELIABLE, TIMEOUT_S, UserNode, draw_image, jpeg_message, raw_message

pytestmark = pytest.mark.ros

SUCCESS = TransitionCallbackReturn.SUCCESS


def enable(user: UserNode, wanted: bool) -> SetBool.Response:
    return user.call(SetBool, 'camera_node/enable', SetBool.Request(data=wanted))


def start_anew(node: CameraNode) -> None:
    transitions = (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure, node.trigger_activate)
    assert all(trigger() == SUCCESS for trigger in transitions)


def test_compressed_images_of_a_remapped_camera_are_answered(user: UserNode, tiny_checkpoint_path: Path) -> None:
    images = user.node.create_publisher(CompressedImage, '/front/image_raw/compressed', RELIABLE)
    with node_here(tiny_checkpoint_path, '-r', 'image:=/front/image_raw', image_transport='compressed') as node:
        assert node.start()
        user.wait_until_served(images)
        user.ask(jpeg_message(draw_image()), images)
    user.node.destroy_publisher(images)


def test_a_camera_that_is_not_there_is_told_with_what_is(user: UserNode, tiny_checkpoint_path: Path) -> None:
    with node_here(tiny_checkpoint_path, '-r', 'image:=/front/image') as node:
        assert node.start()
        said = user.told('no image for ', 'on /front/image (sensor_msgs/msg/Image): nobody publishes there; images are')
        assert '/camera/image (sensor_msgs/msg/Image)' in said


def test_a_pause_outlives_the_network(user: UserNode, tiny_checkpoint_path: Path) -> None:
    with node_here(tiny_checkpoint_path) as node:
        assert enable(user, False).success  # before there is a network, too
        assert node.start()
        for _ in range(2):
            user.wait_until_served()
            message = raw_message(draw_image())
            user.stamp(message)
            user.images.publish(message)
            values = user.diagnostics(lambda values: 'dropped.paused' in values)
            assert values['frames_dropped'] == values['frames_received'] == '1'
            assert user.told('paused by ~/enable')
            start_anew(node)
        user.wait_until_served()
        assert enable(user, True).success
        user.ask(raw_message(draw_image()))


def test_a_frame_that_waits_at_the_end_is_counted(
    user: UserNode, tiny_checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Camera, 'serve_frames', lambda camera: None)  # what comes waits
    with node_here(tiny_checkpoint_path) as node:
        assert node.start()
        assert node._camera is not None
        statistics = node._camera.statistics
        user.wait_until_served()
        user.images.publish(raw_message(draw_image()))
        user.wait_until(lambda: statistics.snapshot().waiting == 1, 'a frame to wait')
        assert node.trigger_deactivate() == SUCCESS
        snapshot = statistics.snapshot()
    assert snapshot.waiting == 0
    assert snapshot.dropped == {'deactivated': 1}


def test_label_infos_are_sent_on_change_only(user: UserNode, tiny_checkpoint_path: Path) -> None:
    received = user.received['detections/label_info']
    received.clear()
    with node_here(tiny_checkpoint_path, score_threshold=0.25) as node:
        assert node.start()
        user.wait_for('detections/label_info', lambda info: info.threshold == 0.25)
        assert node.trigger_deactivate() == node.trigger_activate() == SUCCESS  # nothing has changed
        assert user.set_parameter('score_threshold', 0.25)[0]
        assert user.set_parameter('nms_threshold', 0.5)[0]
        assert user.set_parameter('score_threshold', 0.5)[0]
        user.wait_for('detections/label_info', lambda info: info.threshold == 0.5)
        assert node.trigger_deactivate() == SUCCESS
        assert user.set_parameter('score_threshold', 0.75)[0]
        assert node.trigger_activate() == SUCCESS
        user.wait_for('detections/label_info', lambda info: info.threshold == 0.75)
        assert [info.threshold for info in received] == [0.25, 0.5, 0.75]


def test_a_network_of_other_classes_names_its_own(user: UserNode, tmp_path: Path) -> None:
    labels = load_label_space('camvid_11')
    path = tmp_path / 'camvid.safetensors'
    save_checkpoint(path, build_tiny_network(labels=labels))
    user.received['detections/label_info'].clear()
    user.received['segmentation/label_info'].clear()
    with node_here(path) as node:
        assert node.start()
        objects, areas = (user.wait_for(f'{topic}/label_info') for topic in ('detections', 'segmentation'))
    assert [entry.class_name for entry in objects.class_map] == [label.name for label in labels.detection]
    assert [entry.class_name for entry in areas.class_map][:-1] == [label.name for label in labels.segmentation]


def test_label_infos_are_repeated_if_asked_for(user: UserNode, tiny_checkpoint_path: Path) -> None:
    received = user.received['segmentation/label_info']
    received.clear()
    with node_here(tiny_checkpoint_path, label_info_period_s=0.1) as node:
        assert node.start()
        user.wait_until(lambda: len(received) >= 4, 'label infos again and again')


def test_a_finalized_node_says_so(user: UserNode, tiny_checkpoint_path: Path) -> None:
    with node_here(tiny_checkpoint_path) as node:
        user.diagnostics(lambda values: values['lifecycle_state'] == 'unconfigured')
        assert node.start()
        assert user.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        user.diagnostics(lambda values: values['lifecycle_state'] == 'finalized')
        assert user.told('finalized: shut down for good')


def test_the_advice_on_qos_is_about_what_is_in_force(user: UserNode, tiny_checkpoint_path: Path) -> None:
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    camera = user.node.create_publisher(Image, '/front/image', best_effort)
    override = 'qos_overrides./front/image.subscription.reliability'
    with node_here(tiny_checkpoint_path, '-r', 'image:=/front/image', '-p', f'{override}:=reliable') as node:
        assert node.start()
        said = user.told('a QoS that does not fit')
        assert f'RELIABILITY; this subscription asks for reliable by {override}: set that to best_effort' in said
    elsewhere = node_here(tiny_checkpoint_path, '-p', f'{override}:=reliable')  # of a topic that is not subscribed to
    with pytest.raises(InvalidParameterValueException, match='Only the image subscription'), elsewhere:
        pass
    with node_here(
        tiny_checkpoint_path,
        '-r',
        'image:=/front/image',
        '-p',
        f'{override}:=best_effort',
        input_qos='reliable',
    ) as node:
        assert node.start()
        user.wait_until_served(camera)
        user.ask(raw_message(draw_image()), camera)
    user.node.destroy_publisher(camera)


def test_what_was_written_for_others_is_said_at_start(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own: it is the command line that counts, and the room before the node has taken its share."""
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', str(tmp_path / 'missing.xml'))
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', str(tmp_path / 'missing.xml'))
    (tmp_path / 'params.yaml').write_text('camera_node:\n  ros__parameters:\n    score_threshold: 0.5\n')
    command = [sys.executable, '-m', 'perception.ros.camera_node', '--ros-args', '-r', '__ns:=/camera']
    command += ['-p', f'model_path:={tiny_checkpoint_path}', '--params-file', str(tmp_path / 'params.yaml')]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            user.wait_until_served()
            process.terminate()
            _, said = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert 'params.yaml holds parameters for camera_node; this node is /camera/camera_node and takes none' in said
    assert f'names {tmp_path}/missing.xml, and there is no such file' in said
