"""Problems in, certified prompts out."""
