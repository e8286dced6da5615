"""The volumetric regression network: from a photo to the volume of a head; network, training, use."""
