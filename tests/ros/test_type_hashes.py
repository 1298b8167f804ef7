"""vision_msgs, ours or the robot's, carries the real package's type identity on the wire."""

import pytest
import vision_msgs.msg

from tests.ros.user_node import UserNode

pytestmark = pytest.mark.ros

TYPE_HASHES = {
    'Detection2DArray': 'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'Detection2D': 'RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'BoundingBox2D': 'RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'ObjectHypothesisWithPose': 'RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'LabelInfo': 'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'VisionInfo': 'RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
}


@pytest.mark.parametrize('name', TYPE_HASHES)
def test_type_hash(user: UserNode, name: str) -> None:
    topic = f'/type_hash/{name}'
    publisher = user.node.create_publisher(getattr(vision_msgs.msg, name), topic, 1)
    user.wait_until(lambda: user.node.get_publishers_info_by_topic(topic), f'the middleware to know {topic}')
    (endpoint,) = user.node.get_publishers_info_by_topic(topic)
    assert str(endpoint.topic_type_hash) == TYPE_HASHES[name]
    user.node.destroy_publisher(publisher)
