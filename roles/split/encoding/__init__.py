"""The encoder's part: what is kept of it, what is remembered, and text that is generated."""
