"""`formats`: prompt formats beside each other."""
