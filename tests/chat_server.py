"""A real server of OpenAI's chat protocol over a model of ``chat_models``: ``python chat_server.py FOLDER PORT``.

It computes what it answers: greedy words, and the log probabilities of the first token. A request may name the model
``broken`` (every request fails), ``wordy`` (no log probabilities), ``newer`` (no ``max_tokens``, no temperature),
``strict`` (refuses every question), ``silent`` (answers without words) or ``cut`` (answers end with half a character).
"""

import json
import sys

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from transformers import AutoModelForCausalLM, AutoTokenizer


def application(folder: str) -> FastAPI:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    app = FastAPI()

    @app.get("/health")
    def health():
        return {}

    @app.post("/v1/chat/completions")
    async def complete(request: Request):
        body = await request.json()
        if body["model"] == "broken":
            raise HTTPException(500, "out of order")
        if body["model"] == "strict":
            raise HTTPException(422, "a system message is required")
        if body["model"] == "newer":
            for name in ("max_tokens", "temperature"):
                if name in body:
                    raise HTTPException(400, f"Unsupported parameter: '{name}' is not supported with this model.")
            body |= {"model": "wordy", "max_tokens": body.pop("max_completion_tokens"), "logprobs": None}
        if body["model"] in ("silent", "cut"):
            words = None if body["model"] == "silent" else "a dog \ud83d Score: 2"
            message = {"role": "assistant", "content": words}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
            reply["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return Response(json.dumps(reply), media_type="application/json")
        if body["model"] not in ("tiny", "wordy"):
            raise HTTPException(404, f"no model {body['model']}")
        if body["model"] == "wordy" and body.get("logprobs"):
            raise HTTPException(422, "logprobs are not supported")
        if request.headers.get("authorization") == "Bearer wrong":
            raise HTTPException(401, "wrong key")
        text = tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        start = inputs["input_ids"].shape[1]
        with torch.no_grad():
            first = model(**inputs).logits[0, -1].log_softmax(-1)
            made = model.generate(
                **inputs,
                max_new_tokens=body["max_tokens"],
                do_sample=False,
                temperature=None,
                top_p=None,
                pad_token_id=tokenizer.eos_token_id,
            )
        words = tokenizer.decode(made[0, start:], skip_special_tokens=True)
        logprobs = None
        if body.get("logprobs"):
            values, tokens = first.topk(body["top_logprobs"])
            listed = [
                {"token": tokenizer.decode([token]), "logprob": value, "bytes": None}
                for token, value in zip(tokens.tolist(), values.tolist())
            ]
            logprobs = {"content": [{**listed[0], "top_logprobs": listed}], "refusal": None}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": words},
            "logprobs": logprobs,
            "finish_reason": "stop",
        }
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
        }

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
