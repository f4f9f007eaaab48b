"""Fine-tuning of VisCPM-Paint on pictures and captions that a user brings."""
