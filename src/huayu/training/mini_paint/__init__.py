"""Training of huayu-paint-mini: a codec of pictures, words to a rough picture, and the picture made fine."""
