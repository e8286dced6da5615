"""Ground floor: command line, files, devices. Knows nothing of faces."""
