"""A camera and a user in one: sends frames to the running node over the middleware and collects what comes back."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo

from perception.errors import PerceptionError
from perception.image_messages import decode_image, encode_jpeg_fields
from perception.interfaces import Detections
from perception.ros.awaited import Awaited
from perception.ros.conversions import DetectionError, image_message, read_detections
from perception.ros.node_reports import NodeReports

OUTPUTS = ('detections', 'mask', 'overlay')
TRANSPORTS = {'raw': (Image, 'image'), 'compressed': (CompressedImage, 'image/compressed')}
START_TIMEOUT_S = 180.0
"""For a node that is just being started: its libraries, its weights and the warm-up take a while."""
RUNNING_NODE_TIMEOUT_S = 20.0
"""For a node that is said to run: discovery takes a few seconds, even on a busy network."""
ANSWER_TIMEOUT_S = 15.0
SETTLE_TIMEOUT_S = 5.0
IN_FLIGHT_TIMEOUT_S = 1.0
REPORT_TIMEOUT_S = 5.0
"""The node reports once a second, on a busy machine later."""


@dataclass(frozen=True)
class OutgoingFrame:
    """A frame that is encoded, and only lacks its stamp."""

    message: Image | CompressedImage
    image_hw: tuple[int, int]


@dataclass
class Answer:
    """What came back for one sent frame."""

    sent_ns: int
    image_hw: tuple[int, int]
    latency_ms: dict[str, float] = field(default_factory=dict)
    detections: int = 0


def _deep(reliability: ReliabilityPolicy) -> QoSProfile:
    """Ten deep: this side must not be the one that loses frames."""
    return QoSProfile(depth=10, reliability=reliability)


class FramePlayer:
    """Publishes frames as a camera driver would and subscribes as a user's node would.

    It sends what the node listens to, raw rgb8 or JPEG, and receives results with the reliability that the node offers.

    Args:
        namespace: The camera's namespace.
        on_overlay: Called with each overlay picture, (H, W, 3) uint8 RGB, and its frame's index.
        on_scene: Called with a frame's index, its detections and its mask (H, W) uint8, once both have come.
    """

    def __init__(
        self,
        namespace: str,
        *,
        on_overlay: Callable[[int, np.ndarray], None] | None = None,
        on_scene: Callable[[int, Detections, np.ndarray], None] | None = None,
    ) -> None:
        self.node = Node('frame_player', namespace=namespace)
        self.answers: dict[int, Answer] = {}
        self.unexpected: list[str] = []
        self.last_arrival = time.monotonic()
        self.model = ''
        self.reports = NodeReports(self.node)
        self.label_infos: dict[str, LabelInfo] = {}
        self._transport = 'raw'
        self._was_met = False
        self._indices: dict[int, int] = {}
        self._on_overlay, self._on_scene = on_overlay, on_scene
        self._halves: Awaited[Detection2DArray | Image] = Awaited(ANSWER_TIMEOUT_S)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        latched = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        subscribe = self.node.create_subscription
        self._images = {
            transport: self.node.create_publisher(message_type, topic, _deep(ReliabilityPolicy.RELIABLE))
            for transport, (message_type, topic) in TRANSPORTS.items()
        }
        self._expected = OUTPUTS if on_overlay else OUTPUTS[:2]
        self._results = {output: self._subscribe(output, ReliabilityPolicy.RELIABLE) for output in self._expected}
        for name in ('detections', 'segmentation'):
            subscribe(LabelInfo, f'{name}/label_info', partial(self.label_infos.__setitem__, name), latched)
        subscribe(VisionInfo, 'vision_info', self._on_vision_info, latched)

    def _subscribe(self, output: str, reliability: ReliabilityPolicy) -> Subscription:
        results: dict[str, tuple[type, str, Any]] = {
            'detections': (Detection2DArray, 'detections', self._on_detections),
            'mask': (Image, 'segmentation/mask', self._on_mask),
            'overlay': (Image, 'overlay', self._on_overlay_message),
        }
        message_type, topic, callback = results[output]
        return self.node.create_subscription(message_type, topic, callback, _deep(reliability))

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def spin_until(self, condition: Callable[[], bool], timeout_s: float, check: Callable[[], None]) -> bool:
        """Serve callbacks until the condition holds; False after the timeout. ``check`` may raise to give up."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(remaining, 0.2))
            check()
        return True

    def spin_for(self, seconds: float, check: Callable[[], None]) -> None:
        """Serve callbacks for a while; behind time, at least those of one frame, or queues would overflow."""
        for _ in OUTPUTS:
            self._executor.spin_once(timeout_sec=0)
        self.spin_until(lambda: False, seconds, check)

    def wait_for_node(self, check: Callable[[], None], timeout_s: float = START_TIMEOUT_S) -> None:
        """Serve callbacks until the node listens.

        Raises:
            PerceptionError: If it does not in time; says which such nodes there are.
        """
        namespace = self.node.get_namespace()
        text = f'waiting for camera_node in {namespace}'
        # A watcher should see that something happens, the reader of a log what it is that takes so long.
        watched = sys.stderr.isatty()
        if not watched:
            print(f'{text} (up to {timeout_s:g} s) ...', file=sys.stderr, flush=True)
        with tqdm(desc=text, bar_format='{desc}: {elapsed}', leave=False, disable=not watched) as bar:

            def show() -> None:
                bar.update(0)
                check()

            if not self.spin_until(self.node_is_ready, timeout_s, show):
                raise PerceptionError(
                    f'No camera_node was active in {namespace} within {timeout_s:g} s, with ROS_DOMAIN_ID '
                    f'{self.node.context.get_domain_id()}. {self._what_is_there()}'
                )
        self._was_met = True

    def _what_is_there(self) -> str:
        """Which camera_nodes can be seen, and what to do then."""
        namespaces = [
            namespace for name, namespace in self.node.get_node_names_and_namespaces() if name == 'camera_node'
        ]
        if self.node.get_namespace() in namespaces:
            state = self.reports.latest.get('lifecycle_state', 'no report yet')
            topics = ' or '.join(publisher.topic_name for publisher in self._images.values())
            heard = 'listens' if self._is_heard() else 'does not listen'
            return f'The one there ({state}) {heard} to {topics}: see its log, activate it, or remap its image topic.'
        if namespaces:
            return f'There is one in {", ".join(sorted(namespaces))}: name that namespace.'
        return 'There is none in any namespace: start one, or set ROS_DOMAIN_ID to the number that it runs with.'

    def settle(self, check: Callable[[], None]) -> None:
        """Wait for answers that are still on their way; once nothing has come for a while, nothing will."""
        sent_all = time.monotonic()

        def nothing_more() -> bool:
            quiet_s = time.monotonic() - max(self.last_arrival, sent_all)
            return self.answered() == len(self.answers) or quiet_s > SETTLE_TIMEOUT_S or self._has_gone()

        self.spin_until(nothing_more, ANSWER_TIMEOUT_S, check)

    def await_first_report(self, check: Callable[[], None]) -> None:
        """Take note of what a node that runs already has counted: those were not our frames."""
        self.reports.first = self.reports.latest if self._await_report(check) else None

    def await_final_report(self, check: Callable[[], None]) -> None:
        """Wait, for a moment only, until the node has reported on every frame that was sent."""
        self.spin_until(lambda: self.answered() == len(self.answers) or self._has_gone(), IN_FLIGHT_TIMEOUT_S, check)
        if self._await_report(check):
            self.reports.final = self.reports.latest

    def _await_report(self, check: Callable[[], None]) -> bool:
        """Whether a report came that the node made later than now. One that came may be older: it waited in a queue."""
        now_ns = self.node.get_clock().now().nanoseconds
        self.spin_until(lambda: self.reports.latest_ns > now_ns or self._has_gone(), REPORT_TIMEOUT_S, check)
        return self.reports.latest_ns > now_ns

    def _has_gone(self) -> bool:
        """Whether a node that was there is not any more, and nothing is left to wait for. (Killed, it fades slowly.)"""
        return self._was_met and not self.node.get_publishers_info_by_topic('detections')

    def node_is_ready(self) -> bool:
        """Whether the node listens to our images, has said which model it runs, and we will hear its results."""
        return bool(self.model) and self._is_heard() and self._hears_results()

    def _is_heard(self) -> bool:
        """Whether the node that publishes results listens to our images; from then on it is sent that kind."""
        publishers = self.node.get_publishers_info_by_topic('detections')
        nodes = {(info.node_name, info.node_namespace) for info in publishers}
        for transport, images in self._images.items():
            listeners = self.node.get_subscriptions_info_by_topic(images.topic_name)
            # Others listen, too: a recorder to both.
            if images.get_subscription_count() and nodes & {(one.node_name, one.node_namespace) for one in listeners}:
                self._transport = transport
                return True
        return False

    def _hears_results(self) -> bool:
        """Whether all results are offered; those that are offered as best effort are subscribed to in that way."""
        for output, subscription in self._results.items():
            offered = {
                info.qos_profile.reliability for info in self.node.get_publishers_info_by_topic(subscription.topic_name)
            }
            if not offered:
                return False
            asked = subscription.qos_profile.reliability
            if asked == ReliabilityPolicy.RELIABLE and ReliabilityPolicy.BEST_EFFORT in offered:
                self.node.destroy_subscription(subscription)
                self._results[output] = self._subscribe(output, ReliabilityPolicy.BEST_EFFORT)
        return True

    def prepare(self, image_rgb: np.ndarray) -> OutgoingFrame:
        """Encode a frame as the node wants it; any thread may.

        Args:
            image_rgb: (H, W, 3) uint8.
        """
        message: Any
        if self._transport == 'raw':
            message = image_message(image_rgb, Header())
        else:
            message = CompressedImage()
            for name, value in encode_jpeg_fields(image_rgb).items():
                setattr(message, name, value)
        message.header.frame_id = 'camera'
        return OutgoingFrame(message, (image_rgb.shape[0], image_rgb.shape[1]))

    def send(self, frame: OutgoingFrame) -> int:
        """Publish a frame stamped now; returns its stamp in ns."""
        now = self.node.get_clock().now()
        frame.message.header.stamp = now.to_msg()
        stamp_ns = now.nanoseconds
        self._indices[stamp_ns] = len(self.answers)
        self.answers[stamp_ns] = Answer(sent_ns=stamp_ns, image_hw=frame.image_hw)
        self._images[self._transport].publish(frame.message)
        return stamp_ns

    def is_answered(self, stamp_ns: int) -> bool:
        return all(name in self.answers[stamp_ns].latency_ms for name in self._expected)

    def is_settled(self, stamp_ns: int) -> bool:
        """Whether nothing more will come for a frame: it is answered, or the node has counted it as dropped."""
        if self.is_answered(stamp_ns):
            return True
        received, published, dropped = (
            int(self.reports.latest.get(f'frames_{what}', 0)) for what in ('received', 'published', 'dropped')
        )
        return dropped > 0 and received == len(self.answers) == published + dropped

    def answered(self) -> int:
        """How many frames have all their outputs."""
        return sum(self.is_answered(stamp_ns) for stamp_ns in self.answers)

    def _arrived(self, output: str, header: Header, info: Any) -> Answer | None:
        """The frame that an output belongs to, with its latency noted; an unknown or repeated stamp is a finding."""
        stamp_ns = Time.from_msg(header.stamp).nanoseconds
        answer = self.answers.get(stamp_ns)
        if answer is None or output in answer.latency_ms:
            self.unexpected.append(f'{output} with stamp {stamp_ns}')
            return None
        self.last_arrival = time.monotonic()
        # When the middleware had it, for we may be late to look. Some middlewares do not say, and give 0.
        received_ns = info['received_timestamp'] or self.node.get_clock().now().nanoseconds
        answer.latency_ms[output] = (received_ns - stamp_ns) / 1e6
        return answer

    def _on_detections(self, message: Detection2DArray, info: Any) -> None:
        answer = self._arrived('detections', message.header, info)
        if answer:
            answer.detections = len(message.detections)
            self._join(message)

    def _on_mask(self, message: Image, info: Any) -> None:
        answer = self._arrived('mask', message.header, info)
        if answer and ((message.height, message.width) != answer.image_hw or message.encoding != 'mono8'):
            self.unexpected.append(f'mask {message.height}x{message.width} {message.encoding} for {answer.image_hw}')
        elif answer:
            self._join(message)

    def _join(self, half: Detection2DArray | Image) -> None:
        """Hand on a frame's scene when both of its halves are here."""
        if self._on_scene is None:
            return
        stamp_ns = Time.from_msg(half.header.stamp).nanoseconds
        other = self._halves.take(stamp_ns)
        if other is None:
            self._halves.put(stamp_ns, half)
            return
        mask, detections = (half, other) if isinstance(half, Image) else (other, half)
        try:
            found = read_detections(detections, self.label_infos.get('detections', LabelInfo()))
        except DetectionError as error:
            self.unexpected.append(str(error))
        else:
            self._on_scene(self._indices[stamp_ns], found, np.array(decode_image(mask).pixels))

    def _on_overlay_message(self, message: Image, info: Any) -> None:
        if self._arrived('overlay', message.header, info) and self._on_overlay:
            self._on_overlay(
                self._indices[Time.from_msg(message.header.stamp).nanoseconds], decode_image(message).pixels
            )

    def _on_vision_info(self, message: VisionInfo) -> None:
        self.model = message.method
