"""One forward, or one decoding, on several ranks."""
