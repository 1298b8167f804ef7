"""Quality of service of the topics, and qos_overrides: what may be overridden, with what, and what is in force then."""

from collections.abc import Collection

from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from perception.errors import nearest

QOS_CHOICES = ('best_effort', 'reliable')
OVERRIDABLE = {
    'history': ('keep_last', 'keep_all', 'system_default'),
    'reliability': ('best_effort', 'reliable', 'system_default', 'best_available'),
    'depth': (),
}
"""The policies of the image subscription that qos_overrides may set; rclpy's own default set."""
MOST_DEPTH = 2**31 - 1
_PREFIX = 'qos_overrides.'


def qos_profile(reliability: str, depth: int, *, latched: bool = False) -> QoSProfile:
    """Keep last, with a reliability of QOS_CHOICES; latched ones reach subscribers that come later."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliability == 'reliable' else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def override_name(topic: str, policy: str) -> str:
    """The parameter that overrides a policy of the subscription to a topic."""
    return f'{_PREFIX}{topic}.subscription.{policy}'


def check_qos_overrides(node: Node, topic: str, shared: Collection[str] = ()) -> list[str]:
    """Hold the node's qos_overrides against what there is to override.

    Args:
        topic: Full name of the subscribed image topic.
        shared: Names of parameters that other nodes are given, too.

    Returns:
        Warnings about shared ones that this node has no use for.

    Raises:
        InvalidParameterValueException: If a value is none of its policy's, or nothing here is overridden by a parameter
            that was meant for this node.
    """
    possible = [override_name(topic, policy) for policy in OVERRIDABLE]
    unused = []
    for name, parameter in node._parameter_overrides.items():
        if not name.startswith(_PREFIX):
            continue
        if name in possible:
            reason = _refusal(parameter, OVERRIDABLE[name.rpartition('.')[2]])
        else:
            reason = f'Only the image subscription can be overridden: {nearest(name, possible)}'
            if name in shared:
                unused.append(f'Parameter {name!r} overrides nothing here and is ignored. {reason}')
                continue
        if reason:
            raise InvalidParameterValueException(parameter.name, parameter.value, reason)
    return unused


def _refusal(parameter: Parameter, choices: tuple[str, ...]) -> str:
    value = parameter.value
    if choices and (not isinstance(value, str) or value.lower() not in choices):
        return f'It has to be one of {", ".join(choices)}.'
    if not choices and (type(value) is not int or not 0 <= value <= MOST_DEPTH):
        return f'It has to be a whole number of messages, 0 (the default of the middleware) to {MOST_DEPTH}.'
    return ''


def incompatibility(node: Node, topic: str, policy: str, profile: QoSProfile) -> str:
    """What of the image subscription does not fit a publisher, who says so, and what to do.

    Args:
        policy: Name of the policy as the middleware reports it.
        profile: What is in force, overrides included.
    """
    if policy != 'RELIABILITY':
        return f'{policy}; the publisher has to offer another'
    override = override_name(topic, 'reliability')
    source, asked = override if override in node._parameter_overrides else 'input_qos', profile.reliability.name.lower()
    return f'RELIABILITY; this subscription asks for {asked} by {source}: set that to best_effort'
