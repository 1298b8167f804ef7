"""The thread that tells /diagnostics how the node is, whatever the executor is doing meanwhile.

Loading a network keeps the executor for seconds, and a simulated clock may stop: a node that is silent then looks dead.
"""

import traceback
from collections.abc import Callable
from threading import Event, Thread

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

PERIOD_S = 1.0


class HealthReports:
    """Publishes a status once a second from a thread of its own, until ``stop``.

    Args:
        node: Whose status it is.
        status: Makes it; called by that thread.
    """

    def __init__(self, node: Node, status: Callable[[], DiagnosticStatus]) -> None:
        self._node = node
        self._status = status
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._stopped = Event()
        self._thread = Thread(target=self._run, name='diagnostics', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when the last report is out."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD_S):
            try:
                message = DiagnosticArray(status=[self._status()])
                message.header.stamp = self._node.get_clock().now().to_msg()
                self._publisher.publish(message)
            except Exception:
                if not self._node.context.ok():  # it is only the shutdown that came in between
                    return
                self._node.get_logger().error(
                    f'No diagnostics this time:\n{traceback.format_exc()}', throttle_duration_sec=60.0
                )
