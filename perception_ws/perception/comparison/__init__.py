"""Two replays of the same recording held against each other: is one model better than another, and where."""
