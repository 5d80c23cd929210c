#!/usr/bin/env python3
"""Records what an engine publishes of its KV cache, with libzmq and msgspec, into one file.

    python record_events.py SERVER LIVE REPLAY FILE "Engine and version"

It empties the cache of SERVER, http://host:port, where that can be asked for, and asks for
chats that share beginnings until something is evicted. Then it has replayed what it saw.
The lines of the file:

    # comment
    live TOPIC SEQUENCE PAYLOAD     in base64, - is empty; as it was published
    replay TOPIC SEQUENCE PAYLOAD   as it was replayed, = is what was published; the last one
                                    is the end marker
    held HASH...                    what the engine holds after that, in decimal

What is held is worked out here, from what msgspec decodes, so that it can be compared.
"""
import base64
import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request

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


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.read()


def ask(server, evicted):
    """Asks for chats until evicted() says that it is enough."""
    try:
        post(server + "/reset_prefix_cache", {})
    except urllib.error.HTTPError:
        pass  # a mock engine
    draw = random.Random(5)
    words = "alpha beta gamma delta ship sea harbour ledger queue token".split()
    named = True
    for i in range(100):
        system = f"system {i % 3} " + " ".join(words[(i % 3 + j) % 10] for j in range(40))
        user = f"{i} " + " ".join(draw.choice(words) for _ in range(20 + draw.randrange(200)))
        body = {"model": "tiny", "max_tokens": 3, "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": user}]}
        if named:
            body["session_id"] = f"s{i}"
        try:
            post(server + "/v1/chat/completions", body)
        except urllib.error.HTTPError:
            if not named:
                raise
            named = False  # it does not know the field
        time.sleep(0.2)
        if evicted() > 20:
            return
    raise SystemExit("nothing was evicted")


def main():
    server, endpoint, replays, file, engine = sys.argv[1:]
    context, stop, live = zmq.Context(), threading.Event(), []
    follower = threading.Thread(target=follow, args=(context, endpoint, stop, live))
    follower.start()
    time.sleep(2)  # a subscription takes a moment
    try:
        ask(server, lambda: sum(payload.count(b"BlockRemoved") for _, _, payload in live))
        time.sleep(2)
    finally:
        stop.set()
        follower.join()
    start = int.from_bytes(live[0][1], "big")
    replayed = replay(context, replays, start)
    published = {sequence: payload for _, sequence, payload in live}
    with open(file, "w") as out:
        print(f"# {engine}: what it published from {start} on, and the replay of that", file=out)
        for message in live:
            print("live", *map(text, message), file=out)
        for topic, sequence, payload in replayed:
            same = published.get(sequence) == payload
            print("replay", text(topic), text(sequence), "=" if same else text(payload), file=out)
        print("held", *held(replayed), file=out)
    print(f"{file}: {len(live)} batches, {len(replayed) - 1} replayed, {len(held(replayed))} blocks held")


main()
