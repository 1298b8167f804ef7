"""The ROS 2 side, the only room that imports rclpy. It translates: messages to arrays, results to messages."""
