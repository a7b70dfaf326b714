"""The Faust worker: segments in, labels out."""
