"""Two trainings of the same pictures at once, of different ranks, each followed as it goes.

pip install ./clients/python
ATELIER_URL=http://127.0.0.1:8000 ATELIER_API_KEY=atl_… python examples/train_async.py examples/blip blip
"""

import asyncio
import os
import sys
from pathlib import Path

from atelier_client import AsyncAtelierClient


async def train(atelier: AsyncAtelierClient, folder: Path, trigger: str, rank: int) -> None:
    training = atelier.train(folder, {"model": "tiny", "trigger": trigger, "adapter": {"rank": rank}})
    async for update in training:
        print(f"rank {rank}: {update}")
    adapter = await training.result()
    await atelier.download_adapter_file(adapter.id, Path(f"{trigger}-rank-{rank}.safetensors"))


async def main(folder: Path, trigger: str) -> None:
    async with AsyncAtelierClient(os.environ["ATELIER_URL"], os.environ["ATELIER_API_KEY"]) as atelier:
        await asyncio.gather(*(train(atelier, folder, trigger, rank) for rank in (4, 16)))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
