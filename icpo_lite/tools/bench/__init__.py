"""What `icpo-lite bench` measures: the log-prob path, and sampling and training on groups."""
