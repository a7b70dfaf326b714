"""How a trained model becomes the version that is served."""
