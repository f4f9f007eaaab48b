"""The stages that make the small chat models: words about scenes, sight of scenes, and both joined."""
