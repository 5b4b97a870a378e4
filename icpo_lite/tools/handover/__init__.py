"""A recipe's prompts, rewards and keys for trainers of many GPUs, and the folder of it all."""
