"""One run: its directory, its provenance, building it from a command line, and agreement between its ranks."""
