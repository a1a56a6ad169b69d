"""Durable jobs: accepted work that ends in exactly one visible state, through crashes and full disks."""
