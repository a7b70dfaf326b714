"""What crosses Earshot's process boundaries: messages, topics, the spectrogram, settings, logs and the command line."""
