"""Playing frames to a node until they end, somebody stops it, or the node dies: what came until then is never lost."""

import time
from collections.abc import Callable

from perception.errors import PerceptionError
from perception.output_folder import STOPPED, StopRequest
from perception.ros.node_process import NodeProcessError
from perception.ros.player import FramePlayer

Check = Callable[[], None]
"""Called all the while; raises to give up."""


def play_to_end(
    player: FramePlayer, play: Callable[[Check], None], stop: StopRequest, check_alive: Check
) -> tuple[float, str]:
    """Play, and wait for the node's last report.

    Args:
        play: Sends the frames and collects the answers.
        stop: Somebody's wish to end it early. A second signal ends the wait for the report, later ones are forgotten.
        check_alive: Raises NodeProcessError when the node's process has ended.

    Returns:
        The seconds until the last answer, and what ended it early; empty: nothing did.
    """

    def check() -> None:
        stop.check()
        check_alive()

    started, interrupted = time.monotonic(), ''
    try:
        play(check)
    except KeyboardInterrupt:
        interrupted = STOPPED
    except PerceptionError as error:
        interrupted = str(error)
    try:
        player.await_final_report(check_alive)
    except KeyboardInterrupt:
        pass
    except NodeProcessError as error:
        interrupted = interrupted or str(error)
    stop.forget()
    return max(player.last_arrival - started, 1e-9), interrupted
