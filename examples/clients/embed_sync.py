"""Ray inside an ordinary program. From the directory that holds `ray/`:

PYTHONPATH=. python3 examples/clients/embed_sync.py my.json
"""

import sys

import ray

with ray.serve_in_thread(sys.argv[1]) as server:
    answer = server.infer("Name three colours of the rainbow.", max_tokens=24)
    print(answer["output"])
