"""What to keep of a long sequence and what to run again: planners, without a tensor in them."""
