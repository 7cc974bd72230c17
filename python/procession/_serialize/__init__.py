"""What goes beyond pickle: by value, without a copy, and why it failed."""
