"""From what a client sent to what the cluster is given: read, checked, refused by name."""
