"""The model: its network, its SavedModel, and a server that speaks TensorFlow Serving's gRPC API."""
