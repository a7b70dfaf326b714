"""A whole Earshot on one machine, for development and the demo: a real Kafka broker, model server and worker."""
