"""Fine-tuning a chat model on rows that a user brings."""
