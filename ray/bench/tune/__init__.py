"""`autotune`: a search for better settings, and its proof."""
