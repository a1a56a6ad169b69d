"""Reports read back from their files, compared and drawn as rows."""
