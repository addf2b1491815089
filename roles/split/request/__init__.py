"""What a request asks a pipeline for: its parameters and media, checked, and refused by name."""
