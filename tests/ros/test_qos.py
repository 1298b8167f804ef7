"""qos_overrides: what cannot be is refused with the reason, what is in force is what the advice is about."""

from collections.abc import Iterator

import pytest
import rclpy
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from perception.ros.qos import check_qos_overrides, incompatibility, qos_profile
from tests.ros.user_node import UserNode

pytestmark = pytest.mark.ros

TOPIC = '/camera/image'


@pytest.fixture
def nodes(user: UserNode) -> Iterator[list[Node]]:
    """Nodes that a test has made."""
    made: list[Node] = []
    yield made
    for node in made:
        node.destroy_node()


def overriding(nodes: list[Node], name: str, value: object) -> Node:
    override = Parameter(f'qos_overrides.{name}', value=value)
    nodes.append(rclpy.create_node('overriding', parameter_overrides=[override]))
    return nodes[-1]


@pytest.mark.parametrize(
    ('name', 'value', 'said'),
    [
        ('/camera/image.subscription.reliability', 'bogus', 'one of best_effort, reliable, system_default'),
        ('/camera/image.subscription.reliability', 'unknown', 'one of best_effort'),
        ('/camera/image.subscription.reliability', True, 'one of best_effort'),
        ('/camera/image.subscription.history', 'keep_some', 'one of keep_last, keep_all'),
        ('/camera/image.subscription.depth', -1, 'whole number'),
        ('/camera/image.subscription.depth', 2**31, 'whole number'),
        ('/camera/image.subscription.depth', 1.0, 'whole number'),
        ('/camera/image.subscription.depth', True, 'whole number'),
        ('/camera/image.subscription.depth', '5', 'whole number'),
        (
            '/camera/image.subscription.reliabilty',
            'reliable',
            "did you mean 'qos_overrides./camera/image.subscription.",
        ),
        ('/camera/image.subscription.durability', 'transient_local', 'Only the image subscription can be overridden'),
        ('/camera/image.subscription_2.depth', 3, 'Only the image subscription'),
        ('/camera/image.publisher.depth', 3, 'Only the image subscription'),
        ('/camera/imag.subscription.depth', 3, "did you mean 'qos_overrides./camera/image.subscription.depth'"),
        ('image.subscription.depth', 3, "did you mean 'qos_overrides./camera/image.subscription.depth'"),
        ('/camera/detections.publisher.depth', 3, 'Only the image subscription'),
        ('/camera/image', 3, 'Only the image subscription'),
    ],
)
def test_what_cannot_be_is_refused(nodes: list[Node], name: str, value: object, said: str) -> None:
    with pytest.raises(InvalidParameterValueException) as refusal:
        check_qos_overrides(overriding(nodes, name, value), TOPIC)
    assert said in str(refusal.value)
    assert name in str(refusal.value)
    assert str(value) in str(refusal.value)


@pytest.mark.parametrize(
    ('policy', 'value'),
    [
        ('reliability', 'reliable'),
        ('reliability', 'Best_Effort'),
        ('reliability', 'best_available'),
        ('history', 'keep_all'),
        ('depth', 0),
        ('depth', 5),
    ],
)
def test_what_can_be_is_taken(nodes: list[Node], policy: str, value: object) -> None:
    assert check_qos_overrides(overriding(nodes, f'{TOPIC}.subscription.{policy}', value), TOPIC) == []


def test_overrides_for_several_nodes_are_not_refused_for_the_others_topics(nodes: list[Node]) -> None:
    node = overriding(nodes, '/tf.subscription.depth', 5)
    (warning,) = check_qos_overrides(node, TOPIC, shared={'qos_overrides./tf.subscription.depth'})
    assert warning.startswith("Parameter 'qos_overrides./tf.subscription.depth' overrides nothing here and is ignored.")
    wrong = overriding(nodes, f'{TOPIC}.subscription.depth', -1)
    with pytest.raises(InvalidParameterValueException):
        check_qos_overrides(wrong, TOPIC, shared={f'qos_overrides.{TOPIC}.subscription.depth'})


def test_the_advice_names_what_is_in_force(nodes: list[Node]) -> None:
    node = overriding(nodes, f'{TOPIC}.subscription.reliability', 'reliable')
    said = incompatibility(node, TOPIC, 'RELIABILITY', qos_profile('reliable', 1))
    assert f'asks for reliable by qos_overrides.{TOPIC}.subscription.reliability: set that to best_effort' in said
    said = incompatibility(node, '/other', 'RELIABILITY', qos_profile('reliable', 1))
    assert 'by input_qos: set that to best_effort' in said
