"""Tests that start real processes: the gateway, `llama-server`, the demo."""
