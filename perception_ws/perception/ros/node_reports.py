"""What a camera_node reports of itself in /diagnostics, and how much of that it has counted in this run."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.time import Time


@dataclass(frozen=True, kw_only=True)
class NodeCounts:
    """What the node has counted of the frames that this run sent."""

    received: int
    published: int
    dropped: dict[str, int]
    """By reason."""


class NodeReports:
    """Hears the camera_node in the namespace of another node.

    Args:
        node: Listens.

    Attributes:
        latest: The latest report, by key; empty before there is one.
        latest_ns: When the node made it.
        first: The last report before this run; empty for a node that is new, None if none came.
        final: The first report after this run; None if none came.
    """

    def __init__(self, node: Node) -> None:
        self.latest: dict[str, str] = {}
        self.latest_ns = 0
        self.first: dict[str, str] | None = {}
        self.final: dict[str, str] | None = None
        self._namespace = node.get_namespace().rstrip('/')
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def counts(self) -> NodeCounts | None:
        """The node's counts of this run; None unless a report came that is younger than the last frame."""
        first, final = self.first, self.final
        if first is None or final is None:
            return None

        def since_first(key: str) -> int:
            return int(final.get(key, 0)) - int(first.get(key, 0))

        if since_first('frames_received') < 0:  # activated anew in between, which starts the counters anew
            return None
        reasons = [key for key in final if key.startswith('dropped.') and since_first(key)]
        return NodeCounts(
            received=since_first('frames_received'),
            published=since_first('frames_published'),
            dropped={key.removeprefix('dropped.'): since_first(key) for key in reasons},
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            # All nodes of a robot report on this topic.
            namespace, _, name = status.name.rpartition('/')
            if namespace == self._namespace and 'camera pipeline' in name:
                self.latest = {item.key: item.value for item in status.values}
                self.latest_ns = Time.from_msg(message.header.stamp).nanoseconds
