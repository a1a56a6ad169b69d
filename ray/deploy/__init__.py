"""`python -m ray.deploy COMMAND`: what an operator needs to own one box, from unit files to a doctor."""
