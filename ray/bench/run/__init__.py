"""`run`: a workload against a gateway: load, samples, figures, quality, baselines, report."""
