"""A lifecycle node whose transitions fail aloud: rclpy swallows what its transition callbacks raise."""

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from perception.errors import PerceptionError

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def reported(transition: Transition) -> Transition:
    """rclpy swallows exceptions of transition callbacks; log what happened instead."""

    @wraps(transition)
    def guarded(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except PerceptionError as error:
            node.get_logger().error(f'{transition.__name__} failed: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:
            if not node.context.ok():  # it is only the shutdown that came in between
                return TransitionCallbackReturn.FAILURE
            node.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return guarded


class AnsweringLifecycleNode(LifecycleNode):
    """Refuses a transition that its state does not have, where rclpy lets the caller wait for ever."""

    @property
    def lifecycle_state(self) -> str:
        """As ~/get_state names it."""
        label: str = self._state_machine.current_state[1]
        return label

    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:
        """Answer ~/change_state. rclpy's own callback, of this mangled name, raises on a transition that the current
        state does not have."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)  # type: ignore[misc]
        except RuntimeError as error:
            self.get_logger().warning(f'Transition {request.transition.id} is not possible now: {error}')
            response.success = False
            return response
