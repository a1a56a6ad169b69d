"""`gateway`, `jobs`, `openai`, `prefix`: fixed measurements that are held against the budgets of the plan."""
