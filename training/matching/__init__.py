"""Which prediction answers for which object: one file for each way that networks are matched.

A network says which is its own by the kind of its ``prediction_layout``; ``training.detection_loss`` follows it.
"""
