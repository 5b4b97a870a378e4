"""The model: 4-bit base with LoRA, its chat template, log-probs. unsloth, peft and bitsandbytes are
imported only here."""
