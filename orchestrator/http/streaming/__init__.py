"""Replies that go on while their pictures are being made."""
