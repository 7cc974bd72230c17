"""Memory that processes share: blocks, arrays, dictionaries, segments."""
