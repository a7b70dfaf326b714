"""TensorFlow Serving's gRPC messages without TensorFlow."""
