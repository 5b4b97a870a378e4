"""The public face for trainers that are made for many GPUs: TRL and verl."""
