"""Motion3DGAN: a label and random numbers in, one of many motions out."""
