"""Photos and videos: reading them, crops, where the face is."""
