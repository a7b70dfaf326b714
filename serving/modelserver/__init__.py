"""The model server: TensorFlow Serving's APIs over the versions of several models."""
