"""If these fail, scores from a server are wrong, or a server's bad day costs a study its finished answers."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from chat_models import language_model, teach
from test_guidance_stage import write_manifest
from transformers import AutoModelForCausalLM, AutoTokenizer

from genview.config.guidance import Guidance
from genview.errors import GenviewError
from genview.guidance import rubric, scoring
from genview.guidance.server import Scorer, digit_probabilities

CAPTIONS = ["a dog", "a red boat at night", "many"]


def started(command, port, *, health="/health", seconds=90):
    """The process of a server that answers on its port."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=2)
            return process
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.kill()
    raise RuntimeError("the server did not start")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A model that answers one digit to the first two captions if asked for one, and words to the third."""
    folder = language_model(tmp_path_factory.mktemp("model"))
    examples = []
    for caption, digit in zip(CAPTIONS, ("1", "2", "it has many")):
        examples.append((rubric.question(caption, form=rubric.FORM_DIGIT), digit))
        words = "many" if caption == "many" else f"[score: {digit}]"
        examples.append((rubric.question(caption), words))
    return teach(folder, examples)


@pytest.fixture(scope="module")
def address(taught):
    port = free_port()
    process = started([sys.executable, str(Path(__file__).with_name("chat_server.py")), str(taught), str(port)], port)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait()


def scorer(address, model="tiny", **values):
    return Scorer(Guidance(backend="server", model=model, server=address, **{"maximum_new_tokens": 16, **values}))


def test_choice_is_the_probability_of_the_digits(address, taught):
    found = scorer(address).score(CAPTIONS[:2])
    assert [answer.score for answer in found] == [1, 2]
    tokenizer = AutoTokenizer.from_pretrained(taught)
    model = AutoModelForCausalLM.from_pretrained(taught).eval()
    for caption, answer in zip(CAPTIONS, found):
        turn = rubric.question(caption, form=rubric.FORM_DIGIT)
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).logits[0, -1]
        probabilities = logits.softmax(-1)
        digits = sum(
            probabilities[[tokenizer.convert_tokens_to_ids(before + digit) for digit in "1234"]]
            for before in ("", "Ġ")
            if tokenizer.convert_tokens_to_ids(before + "1") not in (None, tokenizer.unk_token_id)
        )
        assert answer.probabilities == pytest.approx((digits / digits.sum()).tolist(), abs=1e-3)


def test_words_in_place_of_a_digit_are_listed(address):
    answer = scorer(address, attempts=1).score(["many"])[0]
    assert (answer.score, answer.raw_answer) == (None, "many")


@pytest.mark.parametrize("values", [{"model": "wordy"}, {"procedure": "generate"}])
def test_a_server_without_probabilities_is_asked_for_words(address, values):
    found = scorer(address, **values).score(CAPTIONS[:2])
    assert [(answer.score, answer.probabilities) for answer in found] == [(1, None), (2, None)]


def test_a_server_that_fails_stops_the_job(address):
    with pytest.raises(GenviewError, match="run the same command again"):
        scorer(address, model="broken", attempts=1).score(["a dog"])


def test_a_server_of_newer_names_is_asked_in_the_form_that_it_takes(address):
    found = scorer(address, model="newer").score(CAPTIONS[:2])
    assert [answer.score for answer in found] == [1, 2]


@pytest.mark.parametrize(("model", "words"), [("strict", "a system message is required"), ("silent", "hold no words")])
def test_what_is_refused_every_time_stops_the_stage_with_the_servers_words(address, tmp_path, model, words):
    write_manifest(tmp_path / "manifest.parquet", [f"a dog {number}" for number in range(40)], shards=1)
    with pytest.raises(GenviewError, match=f"(?s)none of 40 captions could be scored.*{words}"):
        scoring.run(
            scorer(address, model=model, attempts=1, batch_size=40),
            manifest=tmp_path / "manifest.parquet",
            group="0-of-1",
            output=tmp_path / "0-of-1.parquet",
            stamp={"stage": "test"},
        )
    assert not (tmp_path / "0-of-1.parquet").exists()


def test_half_a_character_in_an_answer_is_left_out(address):
    (answer,) = scorer(address, model="cut", explain=True, procedure="generate").score(["a dog"])
    assert (answer.score, answer.explanation) == (2, "a dog  Score: 2")


def test_an_unknown_model_is_named(address):
    with pytest.raises(GenviewError, match="no model 'other'"):
        scorer(address, model="other").score(["a dog"])


def test_a_refused_key_names_its_variable(address, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with pytest.raises(GenviewError, match="OPENAI_API_KEY"):
        scorer(address).score(["a dog"])


def test_nobody_at_the_address():
    with pytest.raises(GenviewError, match="no answer"):
        scorer(f"http://127.0.0.1:{free_port()}/v1", attempts=1).score(["a dog"])


def test_spellings_of_a_digit_add_up_and_other_words_are_no_choice():
    log = torch.tensor([0.3, 0.3, 0.2, 0.2]).log().tolist()
    both = digit_probabilities(list(zip(["3", " 3", "2", "The"], log)))
    assert both == pytest.approx((0, 0.25, 0.75, 0))
    assert digit_probabilities([("The", -0.01), ("3", -5.0)]) is None


@pytest.mark.slow
def test_the_server_of_transformers(taught):
    """A server that others wrote: it knows no log probabilities, and gives words."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(taught), "--port", str(port)]
    process = started([*command, "--host", "127.0.0.1"], port)
    try:
        found = scorer(f"http://127.0.0.1:{port}/v1", model=str(taught)).score(CAPTIONS[:2])
    finally:
        process.terminate()
        process.wait()
    assert [(answer.score, answer.probabilities) for answer in found] == [(1, None), (2, None)]
