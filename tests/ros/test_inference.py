"""The inference thread where things go wrong: failing GPUs, ends that come in between, and what it leaves behind."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any
from weakref import ref

import pytest
import torch
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn

from perception.pipeline import Perceiver
from perception.ros.camera_node import CameraNode
from perception.ros.gpu import GpuLostError, check_gpu
from tests.ros.node_here import node_here
from tests.ros.user_node import TIMEOUT_S, UserNode, draw_image, raw_message

pytestmark = pytest.mark.ros

# Runs the node with something in it replaced.
PROGRAM = """
import os, pathlib, signal, sys, threading, time
import rclpy, torch
from perception.pipeline import Perceiver
from perception.ros import camera_node
flag = pathlib.Path(sys.argv[1])
look = Perceiver.__call__
def stop_and_wait():
    os.kill(os.getpid(), signal.SIGTERM)
    while rclpy.ok():
        time.sleep(0.01)
{sabotage}
sys.exit(camera_node.main(sys.argv[2:]))
"""


@contextmanager
def sabotaged_node(sabotage: str, flag: Path, model: Path, *parameters: str) -> Iterator[subprocess.Popen[str]]:
    """camera_node in /camera, something in it replaced; what it prints is in stderr."""
    arguments = ['--ros-args', '-r', '__ns:=/camera', '-p', f'model_path:={model}', '-p', 'warmup_iterations:=1']
    for parameter in parameters:
        arguments += ['-p', parameter]
    command = [sys.executable, '-c', PROGRAM.format(sabotage=sabotage), str(flag), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def send_until(user: UserNode, condition: Callable[[], Any], what: str) -> Any:
    """Play a camera until the condition holds; its value."""

    def send() -> Any:
        user.send(raw_message(draw_image()))
        return condition()

    return user.wait_until(send, what)


def send_until_told(user: UserNode, *words: str) -> str:
    """Play a camera until the diagnostics say something with all these words; what they say."""

    def told() -> str:
        said = [message.status[0].message for message in user.received['/diagnostics']]
        return next((each for each in said if all(word in each for word in words)), '')

    return send_until(user, told, f'the diagnostics to say {words}')


FAILING_GPU = """
def fail(*_, **__):
    raise RuntimeError('CUDA error: unspecified launch failure' if flag.exists() else 'CUDA out of memory')
def synchronize(device):
    if flag.exists():
        fail()
def serve(camera, serve=camera_node.Camera.serve_frames):
    Perceiver.__call__, Perceiver.device = fail, property(lambda self: 'cuda:0')
    serve(camera)
torch.cuda.synchronize = synchronize
camera_node.Camera.serve_frames = serve
"""


def test_a_node_goes_on_without_memory_and_ends_without_a_gpu(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    flag = tmp_path / 'flag'
    with sabotaged_node(FAILING_GPU, flag, tiny_checkpoint_path, 'diagnostics.timeout_ms:=500.0') as process:
        user.wait_until_served()
        message = send_until_told(user, 'internal_error')
        assert 'frames come, but none was answered for ' in message  # a busy machine has more to tell
        assert ' s; internal_error: CUDA out of memory' in message
        assert process.poll() is None
        flag.touch()
        send_until(user, lambda: process.poll() is not None, 'the node to end')
        _, said = process.communicate()
    assert process.returncode == 1, said
    assert '[FATAL]' in said
    assert 'cuda:0 is lost to this process, start it anew: CUDA error: unspecified launch failure' in said


BROKEN_NETWORK = """
from perception.errors import NotFiniteError
def fail(*_, **__):
    raise NotFiniteError('The network gave mask that are not finite.')
Perceiver.warm_up, Perceiver.__call__ = lambda *_: None, fail
"""


def test_a_network_without_finite_answers_is_not_the_cameras_fault(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    timeout = 'diagnostics.timeout_ms:=500.0'
    with sabotaged_node(BROKEN_NETWORK, tmp_path / 'flag', tiny_checkpoint_path, timeout):
        user.wait_until_served()
        message = send_until_told(user, 'not finite')
    assert 'frames come, but none was answered for ' in message  # a busy machine has more to tell
    assert ' s; not_finite: The network gave mask that are not finite.' in message


SLOW_NETWORK = """
def look_slowly(*arguments, **options):
    time.sleep(0.4)
    return look(*arguments, **options)
Perceiver.__call__ = look_slowly
"""


def test_overload_is_told_with_share_age_and_remedy(user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    limits = ('diagnostics.timeout_ms:=0.0', 'diagnostics.max_delay_ms:=300.0')
    with sabotaged_node(SLOW_NETWORK, tmp_path / 'flag', tiny_checkpoint_path, *limits):
        user.wait_until_served()
        assert send_until_told(user, 's after the stamp, ', ' s of it here')
        assert send_until_told(user, '% of the frames get no answer (', 'superseded', 'overload: a smaller network, a')
        values = user.diagnostics(
            lambda values: values['unanswered_share'] != 'n/a',
            meanwhile=lambda: user.send(raw_message(draw_image())),
        )
    assert float(values['unanswered_share']) > 0.5
    assert float(values['processing_time_ms']) > 400


LONG_WARM_UP = """
def warm_up(perceiver, iterations):
    while not flag.exists():
        time.sleep(0.01)
Perceiver.warm_up = warm_up
"""


def test_diagnostics_go_on_while_the_node_configures(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    flag = tmp_path / 'flag'
    with sabotaged_node(LONG_WARM_UP, flag, tiny_checkpoint_path):
        for _ in range(2):  # the executor has not even begun
            user.diagnostics(lambda values: values['lifecycle_state'] == 'configuring')
        assert user.told('configuring: no frame is looked at')
        flag.touch()
        user.wait_until_served()
        assert user.change_state(Transition.TRANSITION_DEACTIVATE)
        assert user.change_state(Transition.TRANSITION_CLEANUP)
        flag.unlink()
        with user.service(ChangeState, 'camera_node/change_state') as client:
            request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
            answer = client.call_async(request)
            for _ in range(2):  # the executor is at it
                user.diagnostics(lambda values: values['lifecycle_state'] == 'configuring')
            assert not answer.done()
            flag.touch()
            user.wait_until(answer.done, 'the node to be configured')
        user.diagnostics(lambda values: values['lifecycle_state'] == 'inactive')


HANGING = """
camera_node.INFERENCE_TIMEOUT_S = 0.2
def hang(camera):
    flag.touch()
    threading.Event().wait()
camera_node.Camera.serve_frames = hang
"""


def test_inference_that_hangs_does_not_keep_the_node(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path
) -> None:
    flag = tmp_path / 'flag'
    with sabotaged_node(HANGING, flag, tiny_checkpoint_path) as process:
        user.wait_until(flag.exists, 'inference to hang')
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1, said
    assert '[FATAL]' in said
    assert 'its last frame is not finished after 0.2 s' in said


@pytest.mark.parametrize(
    'sabotage',
    [
        'Perceiver.warm_up = lambda self, iterations: stop_and_wait()',
        'Perceiver.warm_up = lambda *_: None\nPerceiver.__call__ = lambda *a, **k: (stop_and_wait(), look(*a, **k))[1]',
    ],
    ids=['while it configures', 'while it looks at a frame'],
)
def test_a_signal_in_between_is_no_fault(
    user: UserNode, tiny_checkpoint_path: Path, tmp_path: Path, sabotage: str
) -> None:
    with sabotaged_node(sabotage, tmp_path / 'flag', tiny_checkpoint_path) as process:
        send_until(user, lambda: process.poll() is not None, 'the node to end')
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert not any(word in said for word in ('[ERROR]', '[FATAL]', 'Traceback')), said


def test_only_an_error_that_stays_is_the_end_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: str) -> None:
        raise RuntimeError('CUDA error: device-side assert triggered')

    monkeypatch.setattr(torch.cuda, 'synchronize', fail)
    check_gpu('cpu')
    with pytest.raises(GpuLostError, match='cuda:1 is lost to this process'):
        check_gpu('cuda:1')
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
    check_gpu('cuda:1')


@pytest.fixture
def node(user: UserNode, tiny_checkpoint_path: Path) -> Iterator[CameraNode]:
    """The node in this process, unconfigured, its callbacks served by a thread."""
    with node_here(tiny_checkpoint_path) as node:
        yield node


def test_the_thread_that_was_warmed_up_is_the_one_that_serves(
    user: UserNode, node: CameraNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    look = Perceiver.__call__

    def note(*arguments: Any, **options: Any) -> Any:
        threads.append(get_ident())
        return look(*arguments, **options)

    monkeypatch.setattr(Perceiver, '__call__', note)
    assert node.start()
    warmed_up = len(threads)
    assert warmed_up == 3
    user.wait_until_served()
    user.ask(raw_message(draw_image()))
    assert node.trigger_deactivate() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    user.wait_until_served()
    user.ask(raw_message(draw_image()))
    assert len(threads) == warmed_up + 2
    assert len(set(threads)) == 1


def test_cleanup_gives_the_memory_back_behind_the_network(
    user: UserNode, node: CameraNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[Any] = []
    left: list[Any] = []
    warm_up = Perceiver.warm_up

    def note(perceiver: Perceiver, iterations: int) -> None:
        networks.append(ref(perceiver.checkpoint.network))
        warm_up(perceiver, iterations)

    monkeypatch.setattr(Perceiver, 'warm_up', note)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: left.append(networks[-1]()))
    assert node.start()
    user.wait_until_served()
    user.ask(raw_message(draw_image()))
    assert networks[-1]() is not None
    assert user.change_state(Transition.TRANSITION_DEACTIVATE)
    assert user.change_state(Transition.TRANSITION_CLEANUP)
    assert left == [None]  # what is still in use could not be given back
