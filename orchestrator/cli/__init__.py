"""The commands of `circuit-sweep`, and what they print."""
