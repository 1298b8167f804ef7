"""A node as a user of the camera pipeline would write it: subscribes, calls services, waits for events."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo

RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TIMEOUT_S = 60.0
SEND_AGAIN_S = 15.0
ASK_AGAIN_S = 5.0
TOPICS = {
    'detections': (Detection2DArray, RELIABLE),
    'segmentation/mask': (Image, RELIABLE),
    'segmentation/confidence': (Image, RELIABLE),
    'segmentation/color_mask': (Image, RELIABLE),
    'overlay': (Image, RELIABLE),
    'detections/label_info': (LabelInfo, LATCHED),
    'segmentation/label_info': (LabelInfo, LATCHED),
    'vision_info': (VisionInfo, LATCHED),
    '/diagnostics': (DiagnosticArray, RELIABLE),
}
ALWAYS = (
    'detections',
    'segmentation/mask',
    'detections/label_info',
    'segmentation/label_info',
    'vision_info',
    '/diagnostics',
)


class UserNode:
    """Collects every message by topic; each wait ends with the event or fails after a timeout."""

    def __init__(self, namespace: str) -> None:
        self.node = rclpy.create_node('user', namespace=namespace)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._subscriptions: dict[str, Any] = {}
        for topic in ALWAYS:
            self.subscribe(topic)
        self.images = self.node.create_publisher(Image, 'image', RELIABLE)
        self.compressed_images = self.node.create_publisher(CompressedImage, 'image/compressed', RELIABLE)

    def close(self) -> None:
        self.node.destroy_node()

    def subscribe(self, topic: str) -> None:
        message_type, qos = TOPICS[topic]
        self._subscriptions[topic] = self.node.create_subscription(
            message_type, topic, self.received[topic].append, qos
        )

    def unsubscribe(self, topic: str) -> None:
        self.node.destroy_subscription(self._subscriptions.pop(topic))

    def wait_until(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Serve callbacks until the condition is true; its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f'waited {timeout_s:.0f} s in vain for {what}'
            rclpy.spin_once(self.node, timeout_sec=0.1)
        return value

    def wait_for(self, topic: str, match: Callable[[Any], bool] = lambda message: True) -> Any:
        """The newest message on a topic that matches, once there is one."""

        def find() -> Any:
            return next((message for message in reversed(self.received[topic]) if match(message)), None)

        return self.wait_until(find, f'a message on {topic}')

    def wait_until_served(self, publisher: Any = None) -> None:
        """Until the node has subscribed to our images."""
        publisher = publisher or self.images
        self.wait_until(lambda: publisher.get_subscription_count() > 0, 'the node to subscribe')

    def stamp(self, message: Image | CompressedImage, frame_id: str = 'front_camera') -> int:
        """Give a message the time of now; returns its stamp in ns, by which the answers are told apart."""
        now = self.node.get_clock().now()
        message.header.stamp = now.to_msg()
        message.header.frame_id = frame_id
        return now.nanoseconds

    def send(self, message: Image) -> None:
        """Send one image, stamped with now, and wait for nothing."""
        self.stamp(message)
        self.images.publish(message)

    def ask(self, message: Image, publisher: Any = None) -> tuple[Detection2DArray, Image]:
        """Send one image, stamped with now, and wait for both of its answers."""
        self.stamp(message)
        return self.ask_as_it_is(message, publisher)

    def ask_as_it_is(self, message: Image, publisher: Any = None) -> tuple[Detection2DArray, Image]:
        """Send one image, whatever its stamp, and wait for both of its answers.

        It is sent again where none came for long: we may have discovered the node before it has discovered us, and
        nothing on the way of images is reliable.
        """
        sent_at = float('-inf')

        def answers() -> list[Any]:
            nonlocal sent_at
            if time.monotonic() - sent_at > SEND_AGAIN_S:
                (publisher or self.images).publish(message)
                sent_at = time.monotonic()
            found = [
                next(
                    (each for each in reversed(self.received[topic]) if each.header.stamp == message.header.stamp), None
                )
                for topic in ('detections', 'segmentation/mask')
            ]
            return found if None not in found else []

        detections, mask = self.wait_until(answers, 'both answers')
        return detections, mask

    @contextmanager
    def service(self, service_type: Any, name: str) -> Iterator[Any]:
        """A client whose requests and answers both arrive.

        That a service is ready tells that we have discovered it, not that it has discovered us: a request or its
        answer is lost until then. Discovery keeps its order, so the node knows this client once it has answered one
        that was made later; asking for the state changes nothing and may be repeated.
        """
        client = self.node.create_client(service_type, name)
        later = self.node.create_client(GetState, 'camera_node/get_state')
        try:
            self.wait_until(client.service_is_ready, f'service {name}')
            self._state_once_answered(later)
            yield client
        finally:
            self.node.destroy_client(later)
            self.node.destroy_client(client)

    def _state_once_answered(self, client: Any) -> str:
        self.wait_until(client.service_is_ready, 'the state to be served')
        asked_at, answers = float('-inf'), []

        def answered() -> str:
            nonlocal asked_at
            if time.monotonic() - asked_at > ASK_AGAIN_S:
                answers.append(client.call_async(GetState.Request()))
                asked_at = time.monotonic()
            return next((answer.result().current_state.label for answer in answers if answer.done()), '')

        return self.wait_until(answered, 'an answer of camera_node/get_state')

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        with self.service(service_type, name) as client:
            answer = client.call_async(request)
            self.wait_until(answer.done, f'an answer of {name}')
            return answer.result()

    def change_state(self, transition_id: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition_id
        return self.call(ChangeState, 'camera_node/change_state', request).success

    def state(self) -> str:
        return self.call(GetState, 'camera_node/get_state', GetState.Request()).current_state.label

    def set_parameter(self, name: str, value: Any) -> tuple[bool, str]:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, 'camera_node/set_parameters', request).results
        return result.successful, result.reason

    def diagnostics(
        self,
        match: Callable[[dict[str, str]], bool] = lambda values: True,
        *,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> dict[str, str]:
        """The values of the first status from now on that matches.

        Args:
            meanwhile: Is done again and again: what a single frame brings about is over before a busy node says so.
        """
        self.received['/diagnostics'].clear()

        def find() -> dict[str, str] | None:
            meanwhile()
            for message in self.received['/diagnostics']:
                values = {item.key: item.value for item in message.status[0].values}
                if match(values):
                    return values
            return None

        return self.wait_until(find, 'matching diagnostics')

    def told(self, *words: str, meanwhile: Callable[[], object] = lambda: None) -> str:
        """What the first status from now on says that says all these words; ``meanwhile`` as for ``diagnostics``."""
        self.received['/diagnostics'].clear()

        def find() -> str:
            meanwhile()
            said = [message.status[0].message for message in self.received['/diagnostics']]
            return next((each for each in said if all(word in each for word in words)), '')

        return self.wait_until(find, f'diagnostics that say {words}')


def draw_image(height: int = 90, width: int = 151, seed: int = 0) -> np.ndarray:
    """A random but smooth (H, W, 3) uint8 RGB image."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def raw_message(pixels: np.ndarray, encoding: str = 'rgb8', padding: int = 0) -> Image:
    """An image message written by hand, not by the code under test; padding in bytes per row."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    if padding:
        rows = np.concatenate([rows, np.full((height, padding), 77, np.uint8)], axis=1)
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1], is_bigendian=0)
    message.data.frombytes(np.ascontiguousarray(rows).tobytes())
    return message


def jpeg_message(image_rgb: np.ndarray) -> CompressedImage:
    """The image as a camera with JPEG output sends it."""
    import cv2

    message = CompressedImage(format='jpeg')
    _, data = cv2.imencode('.jpg', cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    message.data.frombytes(data.tobytes())
    return message
