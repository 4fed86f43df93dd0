"""What trials and sweeps left behind: run folders -> two documented tables, and frames for notebooks."""
