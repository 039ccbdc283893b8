"""A store with latency on loopback: HTTP with ranges, every answer begins so many milliseconds late.

python benchmarks/shards_store.py FOLDER MILLISECONDS      prints its port, serves until it is killed
"""

import asyncio
import sys
from pathlib import Path

from aiohttp import web


def application(folder: Path, delay: float) -> web.Application:
    """Return the server of a folder; `delay` in seconds."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay)
        path = folder / request.match_info["path"]
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, chunk_size=2**20)

    served = web.Application()
    served.router.add_get("/{path:.*}", answer)
    return served


async def serve(folder: Path, delay: float) -> None:
    """Serve until killed."""
    runner = web.AppRunner(application(folder, delay), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000))
