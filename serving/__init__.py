"""The model: its network, its SavedModel, and a server that speaks TensorFlow Serving's gRPC API.

Keras computes with TensorFlow here, whatever else it computes with elsewhere: a SavedModel is a graph of TensorFlow's.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
