"""The bare loop: aiohttp reads every address of a list and writes its bytes to a file; no checks, no sync, no rows.

python crawl_bare.py LIST.txt FOLDER CONCURRENCY
"""

import asyncio
import sys
from pathlib import Path

import aiohttp


async def main(file: Path, folder: Path, concurrency: int) -> None:
    """Fetch all addresses."""
    folder.mkdir(parents=True)
    addresses = enumerate(file.read_text().split())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for number, address in addresses:
                async with session.get(address) as answer:
                    body = await answer.read()
                (folder / f"{number}.jpg").write_bytes(body)

        await asyncio.gather(*(work() for _ in range(concurrency)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
