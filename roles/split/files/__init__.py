"""Where a model's files are, and what is in them: folders, hubs, single files, other components."""
