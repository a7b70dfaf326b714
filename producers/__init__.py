"""The microphone agent: audio in, three-second segments out to Kafka."""
