"""The parts of the methods that run forward in time: the linearised run of a batch, and what is carried from step to step."""
