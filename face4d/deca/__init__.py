"""DECA: from a photo or a video to the parameters of a face; networks, training, use."""
