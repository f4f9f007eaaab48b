"""The stages that make huayu-chat-mini: words about scenes, sight of scenes, and both joined."""
