"""Where files come from and what identifies them: folders, GGUF files, the hub, a wheel."""
