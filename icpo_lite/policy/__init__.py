"""The model: 4-bit base with LoRA, sampling, log-probs."""
