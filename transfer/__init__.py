"""What moves between processes, and how: messages, payloads, slots, and what carries bytes."""
