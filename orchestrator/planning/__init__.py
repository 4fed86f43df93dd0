"""Which trials, in which order, what is done, and what the rest costs: time, memory, disk."""
