"""Checkpoints: found, read by memory map, accounted for key by key, loaded, converted. Nothing in one is executed."""
