"""The embedded AWS: server, event source mapping and runtime on this machine."""
