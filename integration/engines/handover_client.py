"""Asks for chats with the client of OpenAI, unstreamed and streamed, and prints what it got.

    python handover_client.py BASE_URL PROMPT

A line of JSON each: the text, how it ended, and tokens of the prompt, cached and generated.
"""
import json
import sys

from openai import OpenAI

url, prompt = sys.argv[1:]
client = OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=120)
ask = dict(model="tiny", messages=[{"role": "user", "content": prompt}], temperature=0, seed=7,
           max_tokens=12, extra_body={"ignore_eos": True})


def show(text, reason, usage):
    print(json.dumps({"text": text, "reason": reason, "prompt": usage.prompt_tokens,
                      "cached": usage.prompt_tokens_details.cached_tokens, "generated": usage.completion_tokens}))


whole = client.chat.completions.create(**ask)
show(whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage)

text, reason, usage = "", None, None
for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        reason = choice.finish_reason or reason
show(text, reason, usage)
