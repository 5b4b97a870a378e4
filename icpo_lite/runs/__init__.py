"""A run on disk: training it, its checkpoints, signals, trackers, the runs it is compared with."""
