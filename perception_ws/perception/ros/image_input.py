"""The image subscription of a camera: which topic it is, what the middleware says about it, and why it is silent."""

from collections.abc import Callable
from typing import Any, TypeAlias

from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from perception.ros.input_watch import COMPRESSED, RAW, why_silent
from perception.ros.qos import incompatibility, qos_profile
from perception.ros.stamps import image_age_ms
from perception.ros.statistics import CameraStatistics

ImageMessage: TypeAlias = Image | CompressedImage


def image_topic(node: Node, image_transport: str) -> str:
    """The topic to subscribe to, as image_transport chooses it: ``/compressed`` follows what ``image`` is remapped to.

    A remap of ``image/compressed`` itself goes first. The node's remaps are still to be applied to the name.
    """
    if image_transport == 'raw':
        return 'image'
    compressed = 'image/compressed'
    if node.resolve_topic_name(compressed) != node.resolve_topic_name(compressed, only_expand=True):
        return compressed
    return f'{node.resolve_topic_name("image")}/compressed'


class ImageInput:
    """Hears one image topic and counts what comes and what the middleware loses.

    Args:
        node: Whose subscription it is.
        on_image: Takes each message, after it was counted.
        statistics: Count it.
        image_transport: ``raw`` or ``compressed``.
        input_qos: Reliability, where no qos_overrides says otherwise.

    Attributes:
        topic: Full name.
        incompatible_qos: Which policy of a publisher does not fit, and what to do; empty if all fit.
    """

    def __init__(
        self,
        node: Node,
        on_image: Callable[[ImageMessage], None],
        statistics: CameraStatistics,
        *,
        image_transport: str,
        input_qos: str,
    ) -> None:
        name, compressed = image_topic(node, image_transport), image_transport == 'compressed'
        self.topic = node.resolve_topic_name(name)
        self.incompatible_qos = ''
        self._node = node
        self._type_name = COMPRESSED if compressed else RAW
        self._on_image = on_image
        self._statistics = statistics
        self._qos = qos_profile(input_qos, 1)

        take: Any = self._take  # rclpy is typed for callbacks without the message's info

        def subscribe(message_lost: Callable[[Any], None] | None) -> Any:
            return node.create_subscription(
                CompressedImage if compressed else Image,
                name,
                take,
                self._qos,
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=self._on_incompatible_qos, message_lost=message_lost
                ),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

        try:
            self._subscription = subscribe(self._on_message_lost)
        except UnsupportedEventTypeError:
            statistics.expect_no_count_of_losses()
            self._subscription = subscribe(None)

    def destroy(self) -> None:
        """Hear no more, and hold on to nothing that hears: a ring would keep the network until it is collected."""
        self._node.destroy_subscription(self._subscription)
        self._subscription = None

    def why_silent(self) -> str:
        """Why nothing comes, for people; begins with the topic's full name and type."""
        return f'{self.topic} ({self._type_name}): {why_silent(self._node, self.topic, self._type_name)}'

    def _take(self, message: ImageMessage, info: Any) -> None:
        self._statistics.count_received(
            age_ms=image_age_ms(self._node.get_clock(), message.header),
            sequence=info.get('publication_sequence_number'),
        )
        self._on_image(message)

    def _on_message_lost(self, event: Any) -> None:
        self._statistics.count_lost(event.total_count_change)

    def _on_incompatible_qos(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self.incompatible_qos = incompatibility(self._node, self.topic, policy, self._qos)
        self._node.get_logger().error(
            f'A publisher on {self.topic} offers a QoS that this subscription cannot take ({policy}): nothing will '
            f'arrive from it. {self.incompatible_qos}.'
        )
