"""Encoder, denoiser and decoder: the leader that talks, and the ranks that compute."""
