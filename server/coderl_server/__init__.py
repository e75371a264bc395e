"""The language server and the command line: the only place that joins store, gate and generator."""
