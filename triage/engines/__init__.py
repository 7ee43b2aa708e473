"""Engines: what turns prompts into answers. Each is one file behind the protocol in base.py."""
