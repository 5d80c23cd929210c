"""The Python clients of OpenAI and Cohere against a gateway: python clients.py http://127.0.0.1:8080 MODEL

Says what each API answered, and ends with 1 if one did not as it should. It needs the packages openai and cohere.
"""
import io
import struct
import sys
import time
import zlib

import cohere
from openai import OpenAI

base, model = sys.argv[1], sys.argv[2]
ai = OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
failed = False


def picture(side):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = (b"\0" + b"\0" * side) * side
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sound(seconds):
    data = b"\0" * (32000 * seconds)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + struct.pack("<I", len(data)) + data


def api(name):
    def run(f):
        global failed
        began = time.time()
        try:
            said = f()
        except Exception as e:
            said, failed = f"FAILED: {e!r:.300}", True
        print(f"{name:16} {time.time() - began:5.2f} s  {said}")
    return run


@api("chat")
def _():
    got = ai.chat.completions.create(model=model, max_tokens=5, messages=[{"role": "user", "content": "Hello"}], stream=True)
    return "".join(c.choices[0].delta.content or "" for c in got if c.choices)


@api("embeddings")
def _():
    got = ai.embeddings.create(model=model, input=["ship", "sea"])
    return f"{len(got.data)} vectors of {len(got.data[0].embedding)}"


@api("images")
def _():
    made = ai.images.generate(model=model, prompt="A ship", size="256x256")
    edit = ai.images.edit(model=model, prompt="By night", image=("a.png", picture(64)), size="256x256")
    return f"{len(made.data[0].b64_json)} and {len(edit.data[0].b64_json)} characters"


@api("videos")
def _():
    films = [ai.videos.create(model=model, prompt=f"A ship {i}", extra_body={"num_frames": 9}) for i in range(3)]
    sizes = []
    for film in films:
        assert ai.videos.poll(film.id, poll_interval_ms=100).status == "completed"
        sizes.append(len(ai.videos.download_content(film.id).read()))
        ai.videos.delete(film.id)
    return f"films of {sizes} bytes"


@api("transcriptions")
def _():
    return ai.audio.transcriptions.create(model=model, file=("a.wav", sound(3))).text


@api("speech")
def _():
    return f"{len(ai.audio.speech.create(model=model, input='The sea is wide.', voice='alloy').read())} bytes"


@api("files, batches")
def _():
    line = '{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"llama-8b","max_tokens":3,"messages":[{"role":"user","content":"a"}]}}\n'
    batch = ai.batches.create(
        input_file_id=ai.files.create(file=("a.jsonl", line.encode()), purpose="batch").id, endpoint="/v1/chat/completions", completion_window="24h",
    )
    while batch.status not in ("completed", "failed"):
        time.sleep(0.1)
        batch = ai.batches.retrieve(batch.id)
    return ai.files.content(batch.output_file_id).text[:100]


@api("moderations")
def _():
    return ai.moderations.create(model=model, input="a ship").results[0].flagged


@api("responses")
def _():
    first = ai.responses.create(model=model, input="Hello", max_output_tokens=16)
    for _ in range(4):
        first = ai.responses.create(model=model, input="And then?", max_output_tokens=16, previous_response_id=first.id)
    talk = ai.conversations.create()
    for _ in range(4):
        last = ai.responses.create(model=model, input="And then?", max_output_tokens=16, conversation=talk.id)
    return f"{first.usage.input_tokens} and {last.usage.input_tokens} tokens read in the end"


@api("realtime")
def _():
    with ai.realtime.connect(model=model) as session:
        session.conversation.item.create(item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]})
        session.response.create(response={"max_output_tokens": 5})
        text = ""
        for event in session:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.done":
                return text


@api("rerank (Cohere)")
def _():
    client = cohere.ClientV2(api_key="none", base_url=base)
    got = client.rerank(model=model, query="the wide sea", documents=["bread", "the sea is wide"], top_n=1)
    return f"best is {got.results[0].index} with {got.results[0].relevance_score:.2f}"


sys.exit(failed)
