"""The training loop: from rewarded groups to an update of the LoRA weights."""
