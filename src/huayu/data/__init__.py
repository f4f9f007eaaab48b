"""What the models see and are asked: pictures from outside, and the small world of composed scenes and dialogues."""
