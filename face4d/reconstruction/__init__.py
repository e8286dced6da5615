"""From a photo to a face: crops, rendering, the networks DECA and VRN."""
