"""What moves between processes, and how: messages, payloads, slots, and the backends that carry bytes."""
