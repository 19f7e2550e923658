"""A WebSocket server that echoes, and a client that checks the echo, on Debian's python3-websockets.

    websocket.py serve             prints its port, echoes until it is killed
    websocket.py connect URL       exits with 0 when every message came back
"""

import asyncio
import sys

import websockets

MESSAGES = ["", "hello", "\u00e9\u4e16\U0001f600" * 100, b"\x00\xff" * 40_000, "x" * 1_000_000]


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def connect(url):
    async with websockets.connect(url, max_size=None, open_timeout=20) as socket:
        for message in MESSAGES:
            await socket.send(message)
            if await asyncio.wait_for(socket.recv(), 20) != message:
                sys.exit(f"a message of {len(message)} did not come back as it was")
        await asyncio.wait_for(await socket.ping(), 20)
    if socket.close_code != 1000:
        sys.exit(f"closed with {socket.close_code}, not 1000")
    print(f"{len(MESSAGES)} messages came back")


if sys.argv[1:] == ["serve"]:
    asyncio.run(serve())
elif len(sys.argv) == 3 and sys.argv[1] == "connect":
    asyncio.run(connect(sys.argv[2]))
else:
    sys.exit(__doc__)
