"""After training: one merged model that stands alone, GGUF, Ollama, the hub."""
