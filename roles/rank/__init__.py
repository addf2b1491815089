"""A rank of an instance: it owns a device and its part of the model, and computes."""
