"""The player beside a stand-in for the node: whose counts it believes, and what it says of a node that is not there."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from perception.errors import PerceptionError
from perception.ros import player as player_module
from perception.ros.demo_summary import print_summary, summarise
from perception.ros.player import FramePlayer
from tests.ros.user_node import TIMEOUT_S, UserNode

pytestmark = pytest.mark.ros

IMAGE = np.zeros((4, 6, 3), np.uint8)
SOURCE: Any = SimpleNamespace(path=Path('drive'), skipped=Counter())


def nothing() -> None:
    """There is no process to watch."""


@pytest.fixture
def player(user: UserNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[FramePlayer]:
    monkeypatch.setattr(player_module, 'IN_FLIGHT_TIMEOUT_S', 0.1)
    monkeypatch.setattr(player_module, 'REPORT_TIMEOUT_S', TIMEOUT_S)
    player = FramePlayer('/camera', compressed=False)
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
    player.send(IMAGE)
    reporter()
    assert player.spin_until(lambda: bool(player.diagnostics), TIMEOUT_S, nothing)
    player.send(IMAGE)
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
        player.answers[player.send(IMAGE)].latency_ms.update(detections=1.0, mask=1.0)
    player.await_final_report(Reporter(user, frames_received=2, frames_published=2))
    assert counted(player)['lost_on_the_way'] == 0


def test_what_a_running_node_counted_before_is_not_of_this_run(user: UserNode, player: FramePlayer) -> None:
    reporter = Reporter(user, frames_received=7, frames_published=4, dropped__superseded=3)
    player.await_first_report(reporter)
    player.send(IMAGE)
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
    assert 'The one there (no report yet) does not listen to /camera/image' in complaint()
    there.destroy_node()
