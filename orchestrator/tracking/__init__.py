"""The runs folder as MLflow shows it: a mirror that can be rebuilt at any time."""
