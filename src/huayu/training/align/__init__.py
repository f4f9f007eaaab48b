"""Joining a vision encoder and a language model of the user's choice."""
