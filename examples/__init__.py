"""Things to run and to copy: a real backend for one's own machine, the demo, clients, configs."""
