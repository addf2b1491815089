"""The denoiser's part: the coroutine at the transformer's door, shared forwards, checkpoints."""
