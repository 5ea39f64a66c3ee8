"""Back through time in pieces: sequences cut where gradients are handed over, and stacks with every step kept."""
