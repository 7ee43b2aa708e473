"""The HTTP service: messages in, tickets out."""
