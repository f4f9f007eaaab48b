"""Commands that make the figures of the documentation; each prints one JSON object."""
