"""From a photo to a face: cameras, light, encoders, volumes."""
