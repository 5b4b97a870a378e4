"""A recipe's prompts, rewards and keys for engines that are made for many GPUs: TRL and verl."""
