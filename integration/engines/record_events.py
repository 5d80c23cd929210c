#!/usr/bin/env python3
"""Records what an engine publishes of its KV cache, with libzmq and msgspec, into one file.

    python record_events.py [--most N] LIVE REPLAY FILE "Engine and version" -- COMMAND...

COMMAND makes the engine do something meanwhile. At its end the recording asks for a replay
of all that the engine keeps, or of its last N batches. The lines of the file:

    # comment
    live TOPIC SEQUENCE PAYLOAD     in base64, - is empty; as it was published
    replay TOPIC SEQUENCE PAYLOAD   as it was replayed; the end marker is the last one
    held HASH...                    what the engine holds after the replay, in decimal

What is held is worked out here, from what msgspec decodes, so that it can be compared.
"""
import base64
import subprocess
import sys
import threading
import time

import msgspec
import zmq


def text(frame):
    return base64.b64encode(frame).decode() or "-"


def receive(socket, wait):
    """One message, or None after wait seconds."""
    return socket.recv_multipart() if socket.poll(1000 * wait) else None


def follow(context, endpoint, stop, lines):
    live = context.socket(zmq.SUB)
    live.connect(endpoint)
    live.setsockopt(zmq.SUBSCRIBE, b"")
    while True:
        message = receive(live, 1)
        if message is not None:
            lines.append(message)
        elif stop.is_set():
            return


def replay(context, endpoint, start):
    """The messages of a replay, the end marker included."""
    dealer = context.socket(zmq.DEALER)
    dealer.connect(endpoint)
    dealer.send_multipart([b"", start.to_bytes(8, "big")])
    lines = []
    while not lines or lines[-1][1] != b"\xff" * 8:
        message = receive(dealer, 30)
        if message is None:
            raise SystemExit("the replay does not end")
        if message[0] != b"" or len(message) != 4:
            raise SystemExit(f"a replay of {len(message)} frames: {message!r:.200}")
        lines.append(message[1:])
    return lines


def held(lines):
    """The hashes that are held after the batches of lines."""
    blocks = set()
    for _, sequence, payload in lines:
        if sequence == b"\xff" * 8:
            continue
        for event in msgspec.msgpack.decode(payload)[1]:
            kind = event["type"] if isinstance(event, dict) else event[0]
            hashes = event.get("block_hashes") if isinstance(event, dict) else event[1:2] and event[1]
            if kind == "BlockStored":
                blocks |= {h % 2**64 for h in hashes}
            elif kind == "BlockRemoved":
                blocks -= {h % 2**64 for h in hashes}
            elif kind == "AllBlocksCleared":
                blocks.clear()
    return sorted(blocks)


def main():
    split = sys.argv.index("--")
    args, command = sys.argv[1:split], sys.argv[split + 1:]
    most = None
    if args[0] == "--most":
        most, args = int(args[1]), args[2:]
    endpoint, replays, file, engine = args
    context, stop, live = zmq.Context(), threading.Event(), []
    follower = threading.Thread(target=follow, args=(context, endpoint, stop, live))
    follower.start()
    time.sleep(2)  # a subscription takes a moment
    subprocess.run(command, check=True)
    time.sleep(2)
    stop.set()
    follower.join()
    start = max(0, int.from_bytes(live[-1][1], "big") + 1 - most) if most and live else 0
    replayed = replay(context, replays, start)
    with open(file, "w") as out:
        print(f"# {engine}: what it published, and the replay from {start}", file=out)
        for name, lines in ("live", live), ("replay", replayed):
            for message in lines:
                print(name, *map(text, message), file=out)
        print("held", *held(replayed), file=out)
    print(f"{file}: {len(live)} batches, {len(replayed) - 1} replayed, {len(held(replayed))} blocks held")


main()
