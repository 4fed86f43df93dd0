"""SweepSpec: a question, a base trial and what varies."""
