"""Train on a folder of pictures, and draw with the adapter at two weights.

pip install "./clients/python[images]"
ATELIER_URL=http://127.0.0.1:8000 ATELIER_API_KEY=atl_… python examples/train.py examples/blip blip
"""

import os
import sys
from pathlib import Path

from atelier_client import AtelierClient

folder, trigger = Path(sys.argv[1]), sys.argv[2]

with AtelierClient(os.environ["ATELIER_URL"], os.environ["ATELIER_API_KEY"]) as atelier:
    training = atelier.train(folder, {"model": "tiny", "trigger": trigger})
    for update in training:
        print(update)
    adapter = training.result()
    atelier.download_adapter_file(adapter.id, Path(f"{trigger}.safetensors"))

    for weight in (0.6, 1.0):
        stack = [{"id": adapter.id, "weight": weight}]
        wanted = {"model": "tiny", "prompts": [f"a large {trigger} on blue"], "adapters": stack, "seed": 7}
        [image] = atelier.generate(wanted)
        image.save(f"{trigger}-{weight}.png")
        print(f"{trigger}-{weight}.png is drawn with a weight of {weight}")
