"""llama-server: its provider and the command that starts it. What other rooms use is exported by `ray.providers`."""
