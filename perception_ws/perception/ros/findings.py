"""How a camera pipeline fares, judged by its statistics: is a camera heard, is it served in time, and what is lost."""

from dataclasses import dataclass

from perception.ros.fast_dds import loss_advice
from perception.ros.statistics import Snapshot, Window

OK, WARN, ERROR = range(3)
FEWEST_JUDGED = 5
"""A share of fewer frames than this says nothing."""
Finding = tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is judged, and how strictly; 0 switches a judgement off. The parameters diagnostics.* explain each."""

    expected_frequency: float = 0.0
    timeout_ms: float = 2000.0
    max_allowed_processing_time_ms: float = 0.0
    max_acceptable_consecutive_delay_ms: float = 5000.0
    max_lost_share: float = 0.1
    max_unanswered_share: float = 0.5
    max_delay_ms: float = 1000.0
    max_stamp_ahead_ms: float = 100.0


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What besides the statistics decides how the node feels.

    Attributes:
        lifecycle: The state as ROS names it.
        clock: What is wrong with the clock, for people; empty if nothing is.
        incompatible_qos: Which policy of a publisher does not fit, and what to do.
        last_bad_image: The latest message that was no image, for people; answers since do not erase it.
        silence: Where images are waited for and why none comes, for people; empty while they do.
    """

    lifecycle: str
    enabled: bool = True
    active_for_s: float = 0.0
    model: str = ''
    trained: bool = True
    clock: str = ''
    incompatible_qos: str = ''
    last_bad_image: str = ''
    silence: str = ''


def lost_share(window: Window) -> float | None:
    """The share of a camera's frames that never reached the node; None while too few are known."""
    sent = window.received + window.missing
    return window.missing / sent if sent >= FEWEST_JUDGED else None


def unanswered_share(window: Window) -> float | None:
    """The share of the frames that came, and whose fate is known, that got no answer; None while too few are known."""
    dropped = sum(window.dropped.values())
    settled = dropped + window.published
    return dropped / settled if settled >= FEWEST_JUDGED else None


def input_state(snapshot: Snapshot, situation: Situation, limits: Limits) -> str:
    """One of NotReceived, Ok, Slow, Timeout, BadEncoding, IncompatibleQoS."""
    if situation.incompatible_qos and snapshot.since_last_frame_s is None:
        return 'IncompatibleQoS'
    if snapshot.since_last_frame_s is None:
        return 'NotReceived'
    if limits.timeout_ms and snapshot.since_last_frame_s * 1000 > limits.timeout_ms:
        return 'Timeout'
    # An encoding that was never right is not waited for.
    unanswered = not snapshot.published or _is_unanswered(snapshot, limits)
    if unanswered and snapshot.last_failure is not None and snapshot.last_failure.bad_image:
        return 'BadEncoding'
    if limits.expected_frequency and snapshot.frame_rate_msg_hz < 0.9 * limits.expected_frequency:
        return 'Slow'
    return 'Ok'


def findings(snapshot: Snapshot, situation: Situation, limits: Limits) -> list[Finding]:
    """All that is to be said, each with its level; empty if the camera is heard and served."""
    found: list[Finding] = []
    if situation.model and not situation.trained:
        found.append((WARN, 'UNTRAINED WEIGHTS: the results mean nothing'))
    if situation.clock:
        found.append((WARN, situation.clock))
    if situation.lifecycle == 'finalized':
        return [*found, (WARN, 'finalized: shut down for good, only a new process looks at frames again')]
    if situation.lifecycle != 'active':
        found.append((WARN, f'{situation.lifecycle}: no frame is looked at'))
    if not situation.enabled:
        found.append((OK, 'paused by ~/enable'))
    if situation.lifecycle != 'active' or not situation.enabled:
        return found
    state = input_state(snapshot, situation, limits)
    found += _of_input(state, snapshot, situation, limits)
    if state in ('Ok', 'Slow'):
        found += _of_answers(snapshot, limits)
    return found + _of_stamps(snapshot, limits) + _of_processing(snapshot, limits)


def is_too_slow(snapshot: Snapshot, limits: Limits) -> bool:
    """Whether the latest answer took longer than is allowed."""
    return (snapshot.last_processing_ms or 0.0) > limits.max_allowed_processing_time_ms


def _of_input(state: str, snapshot: Snapshot, situation: Situation, limits: Limits) -> list[Finding]:
    found: list[Finding] = []
    if state == 'IncompatibleQoS':
        found.append((ERROR, f'the publisher offers a QoS that does not fit: {situation.incompatible_qos}'))
    elif state == 'BadEncoding':
        found.append((ERROR, f'no frame can be decoded: {situation.last_bad_image}'))
    elif state == 'Slow':
        rate, expected = snapshot.frame_rate_msg_hz, limits.expected_frequency
        found.append((WARN, f'input at {rate:.1f} Hz, expected {expected:.1f} Hz ({1 - rate / expected:.0%} fewer)'))
    elif state in ('NotReceived', 'Timeout'):
        silent_s = situation.active_for_s if snapshot.since_last_frame_s is None else snapshot.since_last_frame_s
        late = bool(limits.timeout_ms) and silent_s * 1000 > limits.timeout_ms
        where = f' on {situation.silence}' if situation.silence else ''
        found.append((ERROR if late else WARN, f'no image for {silent_s:.1f} s{where}'))
    lost, window = lost_share(snapshot.window), snapshot.window
    if limits.max_lost_share and lost is not None and lost > limits.max_lost_share:
        # What the middleware has not lost came, and a newer one took its place before this process looked.
        advice = loss_advice() if 2 * window.lost >= window.missing else 'this process is too busy to take them'
        found.append((WARN, f'{lost:.0%} of the frames are lost before they reach the node: {advice}'))
    return found


def _of_answers(snapshot: Snapshot, limits: Limits) -> list[Finding]:
    if _is_unanswered(snapshot, limits):
        failure = snapshot.last_failure
        why = f'{failure.reason}: {failure.detail}' if failure else 'the one in hand is not finished'
        return [(ERROR, f'frames come, but none was answered for {snapshot.unanswered_for_s:.1f} s; {why}')]
    if not snapshot.window.published and limits.timeout_ms:
        return []  # that none is answered is for the timeout to judge
    found: list[Finding] = []
    share = unanswered_share(snapshot.window)
    if limits.max_unanswered_share and share is not None and share > limits.max_unanswered_share:
        reasons = sorted(snapshot.window.dropped.items(), key=lambda item: -item[1])
        named = ', '.join(f'{reason} {count}' for reason, count in reasons)
        advice = (
            'overload: a smaller network, a faster device, or fewer frames from the camera'
            if reasons[0][0] in ('superseded', 'too_old')
            else 'the log names the first of each'
        )
        rates = f'{snapshot.frame_rate_node_hz:.1f} of {snapshot.frame_rate_msg_hz:.1f} a second'
        found.append((WARN, f'{share:.0%} of the frames get no answer ({rates}; {named}): {advice}'))
    return found


def _of_stamps(snapshot: Snapshot, limits: Limits) -> list[Finding]:
    found: list[Finding] = []
    clocks = 'synchronise the clocks of camera and node; a recording needs use_sim_time and its own /clock'
    if limits.max_stamp_ahead_ms and snapshot.stamp_ahead_ms > limits.max_stamp_ahead_ms:
        found.append((WARN, f'stamps are {snapshot.stamp_ahead_ms / 1000:.3f} s in the future: {clocks}'))
    delay_ms = snapshot.times_ms.get('delay', (0.0,))[0]
    age_ms = snapshot.times_ms.get('age_at_arrival', (0.0,))[0]
    if limits.max_delay_ms and age_ms > limits.max_delay_ms:
        found.append((WARN, f'frames are {age_ms / 1000:.1f} s old when they come: late on their way, or {clocks}'))
    elif limits.max_delay_ms and delay_ms > limits.max_delay_ms:
        here_ms = delay_ms - age_ms
        found.append(
            (WARN, f'answers go out {delay_ms / 1000:.1f} s after the stamp, {here_ms / 1000:.1f} s of it here')
        )
    return found


def _of_processing(snapshot: Snapshot, limits: Limits) -> list[Finding]:
    if not limits.max_allowed_processing_time_ms:
        return []
    if snapshot.too_slow_for_s * 1000 > limits.max_acceptable_consecutive_delay_ms:
        return [(ERROR, f'processing too slow for {snapshot.too_slow_for_s:.1f} s')]
    if is_too_slow(snapshot, limits):
        return [(WARN, f'processing took {snapshot.last_processing_ms:.0f} ms')]
    return []


def _is_unanswered(snapshot: Snapshot, limits: Limits) -> bool:
    """Whether frames come and get no answer; as long as for a camera that is silent."""
    return bool(limits.timeout_ms) and snapshot.unanswered_for_s * 1000 > limits.timeout_ms
