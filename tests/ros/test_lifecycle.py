"""Lifecycle, compressed input, simulated time, and ends: the node as a launch system handles it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from perception.ros.node_process import NodeProcess, NodeProcessError
from tests.ros.user_node import UserNode, draw_image, jpeg_message, raw_message

pytestmark = pytest.mark.ros


def test_transitions(user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    log = tmp_path / 'node.log'
    parameters = {'model_path': str(tiny_checkpoint_path), 'autostart': False, 'score_thresold': 0.5}
    with NodeProcess(namespace='/camera', parameters=parameters, log=log) as node:
        assert user.state() == 'unconfigured'
        assert user.change_state(Transition.TRANSITION_CONFIGURE)
        assert user.state() == 'inactive'
        assert user.images.get_subscription_count() == 0
        assert user.change_state(Transition.TRANSITION_ACTIVATE)
        user.wait_until_served()
        user.ask(raw_message(draw_image()))
        # Refused with an answer, not with silence.
        assert not user.change_state(Transition.TRANSITION_CONFIGURE)
        assert user.state() == 'active'

        assert user.change_state(Transition.TRANSITION_DEACTIVATE)
        user.wait_until(lambda: user.images.get_subscription_count() == 0, 'the node to unsubscribe')
        assert user.change_state(Transition.TRANSITION_ACTIVATE)
        user.wait_until_served()
        user.ask(raw_message(draw_image()))

        assert user.change_state(Transition.TRANSITION_DEACTIVATE)
        assert user.change_state(Transition.TRANSITION_CLEANUP)
        assert user.state() == 'unconfigured'
        assert user.change_state(Transition.TRANSITION_CONFIGURE)
        assert user.change_state(Transition.TRANSITION_ACTIVATE)
        user.wait_for('vision_info', lambda info: info.database_version == 2)
        user.wait_until_served()
        user.ask(raw_message(draw_image()))

        # Launch and terminal may both interrupt.
        os.kill(node.pid, signal.SIGINT)
        os.kill(node.pid, signal.SIGINT)
        assert node.wait(20) == 0
    text = log.read_text()
    assert 'Traceback' not in text
    assert "'score_thresold' is unknown and ignored: did you mean 'score_threshold'?" in text


def test_compressed_images_under_simulated_time(user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    log = tmp_path / 'node.log'
    parameters = {
        'model_path': str(tiny_checkpoint_path),
        'image_transport': 'compressed',
        'input_qos': 'reliable',
        'use_sim_time': True,
    }
    with NodeProcess(namespace='/camera', parameters=parameters, log=log):
        images = user.compressed_images
        user.wait_until_served(images)
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        deaf = user.node.create_publisher(CompressedImage, 'image/compressed', best_effort)
        user.diagnostics(lambda values: values['input_state'] == 'IncompatibleQoS')
        said = user.told('a QoS that does not fit: RELIABILITY')
        assert 'asks for reliable by input_qos: set that to best_effort' in said
        assert 'use_sim_time is true, but nothing has come on /clock (nobody publishes there)' in said
        user.node.destroy_publisher(deaf)

        _, mask = user.ask(jpeg_message(draw_image()), images)
        assert (mask.height, mask.width) == (90, 151)

        junk = CompressedImage(format='jpeg')
        junk.data.frombytes(b'no picture at all')
        cut = jpeg_message(draw_image(200, 300))
        cut.data = cut.data[: len(cut.data) // 2]
        for message, reason in ((junk, 'undecodable'), (cut, 'truncated')):
            user.stamp(message)
            images.publish(message)
            # There is no /clock: diagnostics go on all the same, and no age is made up.
            values = user.diagnostics(lambda values, reason=reason: f'dropped.{reason}' in values)  # type: ignore[misc]
            assert values['current_delay_from_realtime_ms'] == 'n/a'
        user.ask(jpeg_message(draw_image(61, 83)), images)
    text = log.read_text()
    assert 'Traceback' not in text
    assert 'offers a QoS that this subscription cannot take (RELIABILITY)' in text


def test_wrong_parameters_are_refused_at_start_with_the_reason(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    truncated = tmp_path / 'truncated.safetensors'
    truncated.write_bytes(tiny_checkpoint_path.read_bytes()[:5000])
    cases = {
        'model_path:=/no/such/file.safetensors': 'There is no checkpoint file /no/such/file.safetensors',
        f'model_path:={truncated}': 'is not a readable safetensors file',
        'device:=toaster': "Unknown device 'toaster'",
        'backend:=toaster': 'backend must be one of',
        'score_threshold:=7.5': 'score_threshold',
        'score_threshold:=high': 'score_threshold',
        'qos_overrides./image.subscription.reliability:=bogus': 'one of best_effort, reliable',
        'qos_overrides./image.subscription.depth:=-1': 'a whole number of messages',
        'qos_overrides./image.subscription.reliabilty:=reliable': 'did you mean',
        'qos_overrides./detections.publisher.depth:=3': 'Only the image subscription can be overridden',
    }
    # One process for all: each needs seconds to load its libraries.
    program = 'import sys; from perception.ros.camera_node import main\n'
    program += "for case in sys.argv[1:]: print('exit code', main(['--ros-args', '-p', case]), flush=True)"
    result = subprocess.run([sys.executable, '-c', program, *cases], capture_output=True, text=True, timeout=300)
    assert result.stdout.split('\n')[:-1] == ['exit code 1'] * len(cases), result.stderr
    for said in cases.values():
        assert said in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_killed_node_is_noticed(user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    parameters = {'model_path': str(tiny_checkpoint_path)}
    with NodeProcess(namespace='/camera', parameters=parameters, log=tmp_path / 'node.log') as node:
        node.check_alive()
        os.kill(node.pid, signal.SIGKILL)
        assert node.wait(20) == -signal.SIGKILL
        with pytest.raises(NodeProcessError, match='ended with exit code -9'):
            node.check_alive()
