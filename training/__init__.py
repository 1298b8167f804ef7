"""Training on a workstation: phases, losses, data sets. Never installed on the vehicle."""
