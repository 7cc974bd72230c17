"""Starting processes: what a child is told, and what it tells when it ends."""
