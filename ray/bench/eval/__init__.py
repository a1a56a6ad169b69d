"""`eval`: a golden set, judged by prompt family."""
