"""What CoMA, CoMA_Florence and the demo look like on disk, as meshes and as landmark sequences."""
