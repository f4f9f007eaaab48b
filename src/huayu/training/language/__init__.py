"""Pretraining of a language model on plain text."""
