"""The bench room: measures Ray from outside, as real processes, and holds the numbers against the plan's budgets.

`python -m ray.bench` is the way in; there is nothing here to import. `commands.py` says which command is measured
where. The folders, from the ground up; each uses only those above it in this list:

- `processes/`: servers under measurement, and the load generator that asks them;
- `report/`: the one form of every report, its files and its drawings;
- `run/`: `run`, a workload against a gateway: load, samples, figures, quality, baselines;
- `reading/`: reports read back from files, compared (`compare`) and drawn as rows;
- `budgets/` (`gateway`, `jobs`, `openai`, `prefix`), `eval/`, `formats/`, `peers/`, `tune/` (`autotune`): the other
  commands, which know nothing of each other.
"""
