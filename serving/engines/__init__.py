"""What runs a version: TensorFlow, or OpenVINO once it has been converted."""
