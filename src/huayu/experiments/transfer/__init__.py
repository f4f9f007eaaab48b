"""Does sight learned from English alone speak Chinese? The published claims, on a world that trains in an hour."""
