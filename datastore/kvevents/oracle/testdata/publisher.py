"""Publishes KV events by libzmq and msgspec: batches with their numbers at one port, replays at
another. Arguments: the two ports, 0 for any, and, if batches are to go to somebody who waits for
connections, their address. Prints the ports, then, once all is published, the hashes that are held; replays
until it is killed."""
import random
import sys
import time
from collections import deque

import msgspec
import zmq


class Event(msgspec.Struct, omit_defaults=True, gc=False, tag=True):
    pass


class BlockStored(Event):
    block_hashes: list
    parent_block_hash: int | None
    token_ids: list
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    session_id: str | None = None


class BlockRemoved(Event):
    block_hashes: list
    medium: str | None


class Batch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    ts: float
    events: list
    data_parallel_rank: int | None = None


def bind(socket, port):
    if port:
        socket.bind(f"tcp://127.0.0.1:{port}")
        return port
    return socket.bind_to_random_port("tcp://127.0.0.1")


def serve_replay(router, kept):
    identity, _, start = router.recv_multipart()
    for seq, payload in kept:
        if seq >= int.from_bytes(start, "big"):
            router.send_multipart((identity, b"", b"kv", seq.to_bytes(8, "big"), payload))
    router.send_multipart((identity, b"", b"", (-1).to_bytes(8, "big", signed=True), b""))


context = zmq.Context()
pub, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
pub.set_hwm(100_000)
router.set_hwm(0)
port = 0
if len(sys.argv) > 3:
    pub.connect(sys.argv[3])
else:
    port = bind(pub, int(sys.argv[1]))
print(port, bind(router, int(sys.argv[2])), flush=True)

encode = msgspec.msgpack.Encoder().encode
kept = deque(maxlen=10_000)
held = deque()
for seq in range(5000):
    hashes = [random.getrandbits(64) for _ in range(8)]
    parent = held[-1] if held else None
    events = [BlockStored(hashes, parent, [random.randrange(128_000) for _ in range(128)], 16, None, "GPU", None)]
    held.extend(hashes)
    while len(held) > 200:
        events.append(BlockRemoved([held.popleft()], "GPU"))
    payload = encode(Batch(time.time(), events, 0))
    pub.send_multipart((b"kv", seq.to_bytes(8, "big"), payload))
    kept.append((seq, payload))
    if router.poll(0):
        serve_replay(router, kept)
    if seq % 100 == 0:
        time.sleep(0.01)
print(*sorted(held), flush=True)
while True:
    serve_replay(router, kept)
