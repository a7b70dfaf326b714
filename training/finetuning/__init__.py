"""Training of the network itself, epoch by epoch."""
