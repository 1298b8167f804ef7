"""Recordings without ROS: reading frames from bags, folders of images and videos, and writing bags."""
