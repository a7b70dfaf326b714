"""Sounds without labels, and an audio teacher that says what it hears in them."""
