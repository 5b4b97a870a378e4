"""Is an answer right? One module a task; `rewards.grading` lists them."""
