"""Adaptive search: a study asks for trials in rounds, each from what the earlier rounds found."""
