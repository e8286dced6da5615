"""Dense meshes from landmarks: the topology's hierarchy and spirals, and the decoders."""
