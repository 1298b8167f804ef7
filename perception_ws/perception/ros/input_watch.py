"""Why no image comes: what the graph of ROS says about the topic, for people."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from rclpy.node import Node, NodeNameNonExistentError

from perception.ros.fast_dds import loss_advice

RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
SUFFIX = '/compressed'
SHOWN = 3


def why_silent(node: Node, topic: str, wanted: str) -> str:
    """Why nothing comes on a topic, as far as the graph tells.

    Args:
        topic: Its full name.
        wanted: The type of the subscription, RAW or COMPRESSED.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    fitting = [each for each in publishers if each.topic_type == wanted]
    if fitting:
        advice = f': {loss_advice()}' if wanted == RAW else ''
        return f'{_names(fitting)} publishes there, but sends nothing, or the middleware loses it{advice}'
    if publishers:
        types = _joined({each.topic_type for each in publishers})
        return f'{_names(publishers)} publishes {types} there{_transport_advice(topic, types)}'
    return f'nobody publishes there{_twice_compressed(topic)}; {_elsewhere(node, topic)}'


def clock_fault(node: Node) -> str:
    """What is wrong with the simulated time that a node waits for; empty if nothing is."""
    if not node.get_parameter('use_sim_time').value or node.get_clock().now().nanoseconds:
        return ''
    publishers = node.get_publishers_info_by_topic('/clock')
    who = f'{_names(publishers)} publishes there' if publishers else 'nobody publishes there'
    return f'use_sim_time is true, but nothing has come on /clock ({who}): no age of an image is known'


def _names(endpoints: Iterable[Any]) -> str:
    names = {f'{each.node_namespace.rstrip("/")}/{each.node_name}' for each in endpoints}
    # An endpoint may be discovered before its node, and what is no ROS node has no name.
    return _joined('a nameless node' if 'UNKNOWN' in name else name for name in names)


def _transport_advice(topic: str, types: str) -> str:
    if types == COMPRESSED:
        base = topic.removesuffix(SUFFIX)
        remap = f'image:={base}' if base != topic else f'image{SUFFIX}:={topic}'
        return f': set image_transport to compressed and remap {remap}'
    if types == RAW:
        return f': set image_transport to raw and remap image:={topic}'
    return ', which are no images: remap image to a topic of images'


def _twice_compressed(topic: str) -> str:
    if not topic.endswith(2 * SUFFIX):
        return ''
    base = topic.removesuffix(2 * SUFFIX)
    return f' (image_transport appends {SUFFIX} by itself: remap image:={base})'


def _elsewhere(node: Node, topic: str) -> str:
    """The nearest names under which others publish images."""
    found: dict[str, set[str]] = {}
    for name, namespace in node.get_node_names_and_namespaces():
        if (name, namespace) == (node.get_name(), node.get_namespace()):
            continue
        # Not get_publishers_info_by_topic: it applies this node's remaps, and what was remapped seems to be gone.
        try:
            published = node.get_publisher_names_and_types_by_node(name, namespace)
        except NodeNameNonExistentError:  # it has just ended
            continue
        for other, types in published:
            if {RAW, COMPRESSED} & set(types):
                found.setdefault(other, set()).update(types)
    if not found:
        return f'no other node publishes images in domain {node.context.get_domain_id()}'
    nearest = get_close_matches(topic, found, n=SHOWN, cutoff=0.0)
    return f'images are published on {", ".join(f"{name} ({_joined(found[name])})" for name in nearest)}'


def _joined(words: Iterable[str]) -> str:
    return ', '.join(sorted(words))
