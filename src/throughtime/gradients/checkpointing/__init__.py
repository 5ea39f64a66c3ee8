"""Plans for checkpointing: which states to keep and which segments to recompute. They use no tensors."""
