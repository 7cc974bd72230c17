"""Starting processes: start messages, and reports about the end."""
