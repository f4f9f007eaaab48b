"""What the library's ``generate`` lacks: the published search, a growing cache, streams that can be stopped.

``options`` and ``hypotheses`` are plain Python; everything else needs torch and is imported from its own module.
"""
