"""Files, devices, checkpoints, training runs, processes. Knows nothing of faces."""
