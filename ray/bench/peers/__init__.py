"""`peers`: Ray beside another OpenAI-compatible server, in turns."""
