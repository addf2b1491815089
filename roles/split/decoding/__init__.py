"""The decoder's part: where it begins, what it makes, previews, and little memory."""
