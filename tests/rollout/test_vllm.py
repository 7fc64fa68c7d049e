"""vLLM against the plain policy: its real server and its real engine where they are installed, and what goes wrong."""

import copy
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from clew.cli.main import main
from clew.config import SamplerConfig
from clew.errors import InputError
from clew.policy import Policy, with_adapters
from clew.rollout import vllm as module
from clew.rollout.sampler import SharedPrefixSampler
from clew.rollout.serving import SamplerError, call
from clew.rollout.types import Context, Request
from clew.rollout.vllm import VllmServer, engine_for
from clew.runs.rollouts import read_rollouts
from clew.train.rounds import split
from clew.train.team import sampler_maker
from clew.world import Stop
from rollout.sampler_contract import CONTRACT, GREEDY, HOT, PROMPT, SIZE, base_policy, shake
from servers import PYTHON, QUIET, ROOT, free_port, serving, vllm_serving
from small import metrics, split_config

needs_vllm = pytest.mark.skipif(not PYTHON.is_file(), reason="vLLM is not installed: make vllm")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model that is served."""
    folder = tmp_path_factory.mktemp("base") / "model"
    base_policy().save(folder)
    return folder


@pytest.fixture(scope="module")
def url(base: Path) -> Iterator[str]:
    with vllm_serving(base, base.parent / "log") as url:
        yield url


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "__defaults__", (None, 600.0, (0.01, 0.01)))


def adapter_policy(rank: int = 4, seed: int = 3) -> Policy:
    policy = with_adapters(base_policy(seed), ("shoggoth",), rank)[0]
    shake(policy)
    return policy


def served(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        return [one["id"] for one in json.load(answer)["data"]]


@pytest.mark.parametrize("keeps", CONTRACT, ids=lambda keeps: keeps.__name__)
def test_the_sampler_in_this_process_keeps_the_contract(keeps: Callable) -> None:
    policy = base_policy()
    keeps(SharedPrefixSampler(policy), policy)


@needs_vllm
def test_the_server_keeps_the_contract(url: str, tmp_path: Path) -> None:
    policy, sampler = adapter_policy(), VllmServer(url, tmp_path / "served")
    sampler.sync(policy)
    for keeps in CONTRACT:
        keeps(sampler, policy)
    names = [name for name in served(url) if name.startswith("clew-")]
    assert names == [sampler.model] and [path.name for path in (tmp_path / "served").iterdir()] == names
    sampler.close()
    assert not (tmp_path / "served").exists() and sampler.model not in served(url)


@needs_vllm
@pytest.mark.parametrize("what", ["", "train"])
def test_the_engine_in_this_process(what: str) -> None:
    """In vLLM's own environment: the contract, by turns for two policies, and a split of two whole models."""
    command = [str(PYTHON), str(ROOT / "tests" / "rollout" / "sampler_contract.py"), *what.split()]
    env = os.environ | QUIET | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-3000:]


@needs_vllm
def test_a_server_of_another_model_is_found_out(url: str, tmp_path: Path) -> None:
    other = adapter_policy(seed=5)
    line = r"^sampler\.url: .* serves another model than this policy's base: its log-probabilities are \d"
    with pytest.raises(InputError, match=line):
        VllmServer(url, tmp_path / "served").sync(other)
    wider = adapter_policy()
    wider.tokenizer = copy.deepcopy(wider.tokenizer)
    wider.model.resize_token_embeddings(SIZE + 3)  # type: ignore[operator]
    wider.tokenizer.add_tokens(["a", "b", "c"])
    with pytest.raises(InputError, match=r"^sampler\.url: .* out of vocabulary"):
        VllmServer(url, tmp_path / "served").sync(wider)
    assert not (tmp_path / "served").exists() and len(served(url)) == 1


@needs_vllm
def test_a_rank_or_a_row_beyond_what_the_server_was_started_for(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^sampler\.url: .*LoRA rank 16 is greater than max_lora_rank 8"):
        VllmServer(url, tmp_path / "served").sync(adapter_policy(16))
    sampler = VllmServer(url, tmp_path / "served")
    sampler.sync(adapter_policy())
    fits = Request(Context([3] * 500, "prompt"), "answer", 12, Stop())
    assert len(sampler.sample([fits], GREEDY)[0].tokens) == 12
    line = r"^sampler: 501 tokens are read and up to 12 written, more than the 512 that vLLM was started with"
    with pytest.raises(InputError, match=line):
        sampler.sample([fits, Request(Context([3] * 501, "prompt"), "answer", 12, Stop())], GREEDY)
    sampler.close()


@needs_vllm
@pytest.mark.parametrize("policies", ["adapter", "adapters"])
def test_a_split_from_the_command_line(policies: str, url: str, base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = f"""--model {base} --policies {policies} --rank 4 --sampler vllm --sampler.url {url}
        --importance-cap 2 --mazes.sizes [3] --warm-start.steps 0 --rounds 2 --questions 2 --thoughts 2 --answers 2
        --max-thought 8 --max-answer 8 --validation-questions 2 --final-questions 4 --grader ['models:length']"""
    assert main(["split", *options.split(), "--out", str(run)]) == 0
    members = ["shoggoth", "face"][: 1 + (policies == "adapters")]
    lines = [line for line in metrics(run)[1:] if f"{members[0]}_importance" in line]
    assert lines
    for line in lines:
        for name in members:
            assert line[f"{name}_sampler_gap"] < 1e-3 and line[f"{name}_importance_cut"] == 0
            assert line[f"{name}_importance"] == pytest.approx(1, abs=1e-3)
    assert not (run / "served").exists() and len(served(url)) == 1


@needs_vllm
def test_a_server_that_dies_in_mid_round(url: str, base: Path, tmp_path: Path) -> None:
    """Finished rounds are kept, and the run goes on at another server's url."""
    left = [10**9]

    def passed_on(path: str, posted: Any) -> tuple[int, bytes]:
        left[0] -= path == "/v1/completions"
        if left[0] < 0:
            raise ConnectionError
        data = None if posted is None else json.dumps(posted).encode()
        request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()

    changes: dict[str, Any] = {"model__folder": str(base), "policies": "adapters", "rank": 4, "warm_start__steps": 0}
    changes |= {"sampler__name": "vllm", "grader": ["models:length"], "max_answer": 8, "validate_every": 0}
    with serving(passed_on) as through:
        config = split_config(tmp_path / "run", sampler__url=through, **changes)

        def dies(values: dict[str, Any]) -> None:
            if values.get("step") == 2:
                left[0] = 5  # amid the answers of the third round

        with pytest.raises(SamplerError, match=rf"^{through}/v1/completions cannot be reached"):
            split(config, report=dies)
        assert left[0] < 0
    before = metrics(tmp_path / "run")
    assert [line["step"] for line in before] == [0, 1, 2]
    config.sampler.url = url
    split(config, resume=True)
    after = metrics(tmp_path / "run")
    assert after[:3] == before and [line["step"] for line in after] == [0, 1, 2, 3]
    assert len(list(read_rollouts(tmp_path / "run"))) == 9 and not (tmp_path / "run" / "served").exists()


def answers(**changed: Any) -> Callable[[str, Any], tuple[int, str]]:
    """A server that is no vLLM, but for what it says of itself: to each path what is given, by its last word."""
    said = {"models": {"data": [{"id": "base", "max_model_len": 64}]}, "load_lora_adapter": "ok"}
    said |= {"unload_lora_adapter": "ok"} | changed

    def answer(path: str, posted: Any) -> tuple[int, str]:
        body = said[path.rpartition("/")[2]]
        body = body(posted) if callable(body) else body
        return body if isinstance(body, tuple) else (200, json.dumps(body))

    return answer


def choice(tokens: Any = (5, 6), logps: Any = (-1.0, -2.0), finish: Any = "length", index: Any = 0) -> dict[str, Any]:
    return {"index": index, "token_ids": tokens, "logprobs": {"token_logprobs": logps}, "finish_reason": finish}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"models": {"data": []}}, "does not say which model it serves"),
        ({"models": [1]}, "does not say which model it serves"),
        ({"models": {"data": [{"max_model_len": "long"}]}}, "does not say which model it serves"),
        ({"models": (500, "down")}, "answered 500: down"),
        (
            {"load_lora_adapter": (404, '{"detail": "Not Found"}')},
            "takes no adapters at run time; start it with --enable",
        ),
        ({"load_lora_adapter": (400, '{"error": {"message": "rank"}}')}, "answered 400: rank"),
        ({"completions": (400, '{"error": {"message": "no"}}')}, "answered 400: no"),
        ({"completions": {"choices": [choice()]}}, "serves another model than this policy's base"),
        ({"completions": {"choices": [choice(logps=(float("nan"), -1.0))]}}, "where log-probabilities belong"),
    ],
)
def test_what_is_no_server_of_this_policy(changed: dict[str, Any], line: str, tmp_path: Path) -> None:
    with serving(answers(**changed)) as url, pytest.raises(InputError) as caught:
        VllmServer(url, tmp_path / "served").sync(adapter_policy())
    assert re.match(rf"^sampler\.url: {url}.*{line}", str(caught.value))
    assert "\n" not in str(caught.value) and not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        {"choices": [3]},
        {"choices": [choice()]},  # two were asked for
        {"choices": [choice(), choice(index="1")]},
        {"choices": [choice(), choice(tokens="56")]},
        {"choices": [choice(), choice(tokens=[5])]},
        {"choices": [choice(), choice(tokens=[5, True])]},
        {"choices": [choice(), choice(tokens=[5, SIZE])]},
        {"choices": [choice(), choice(tokens=[5, -1])]},
        {"choices": [choice(), choice(tokens=[5] * 9, logps=[-1.0] * 9)]},
        {"choices": [choice(), choice(tokens=[], logps=[])]},
        {"choices": [choice(), choice(logps=[-1.0, None])]},
        {"choices": [choice(), choice(logps=[-1.0, 0.5])]},
        {"choices": [choice(), choice(logps=[-1.0, float("-inf")])]},
        {"choices": [choice(), choice(finish="abort")]},
    ],
)
def test_what_no_sampler_can_have_written(said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APART", 1e9)
    policy, asked = adapter_policy(), Request(PROMPT, "thought", 8, Stop(), 2)
    calls: list[Any] = []

    def completions(posted: Any) -> Any:
        calls.append(posted)
        return {"choices": [choice(), choice(index=1)][: posted["n"]]} if len(calls) < 3 else said

    with serving(answers(completions=completions)) as url:
        sampler = VllmServer(url, tmp_path / "served")
        sampler.sync(policy)
        assert [one.tokens for one in sampler.sample([asked], HOT)] == [[5, 6], [5, 6]]
        with pytest.raises(SamplerError, match=f"^{url} ") as caught:
            sampler.sample([asked], HOT)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_server_that_fails_after_the_first_sync_is_a_run_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "APART", 1e9)
    policy = adapter_policy()
    own = {"completions": lambda posted: {"choices": [choice()]}}
    loads: list[Any] = []

    def load(posted: Any) -> Any:
        loads.append(posted)
        return "ok" if len(loads) < 3 else (500, "the engine has died")

    with serving(answers(load_lora_adapter=load, **own)) as url:
        sampler = VllmServer(url, tmp_path / "served")
        sampler.sync(policy)
        sampler.sync(policy)
        assert len({one["lora_name"] for one in loads}) == 2  # never a name again
        with pytest.raises(SamplerError, match="answered 500: the engine has died"):
            sampler.sync(policy)


def made(tmp_path: Path, policies: dict[str, Policy] | None = None, **changes: Any) -> Any:
    config = split_config(tmp_path / "run", sampler__name="vllm", **changes)
    policies = policies or {"shoggoth": base_policy()}
    return sampler_maker(config, policies, Accelerator(cpu=True), tmp_path / "run")


def test_what_cannot_be_sampled_is_refused_before_work(tmp_path: Path, base: Path) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        InputError, match=r"^sampler\.url: a server takes adapters, and these policies are whole models"
    ):
        made(tmp_path, sampler__url=down)
    adapter = {"shoggoth": adapter_policy()}
    with pytest.raises(InputError, match=r"^sampler\.url: a server has no new model"):
        made(tmp_path, adapter, sampler__url=down)
    with pytest.raises(InputError, match=rf"^sampler\.url: {down}/v1/models cannot be reached: Connection refused"):
        made(tmp_path, adapter, sampler__url=down, model__folder=str(base))
    with pytest.raises(InputError, match=r"^sampler: vllm in this process holds one model at a time"):
        made(tmp_path, {"shoggoth": base_policy(), "face": adapter_policy()})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"^sampler\.url: names a vLLM server, and the sampler is shared"):
        split(split_config(tmp_path / "run", sampler__url=down))
    with pytest.raises(InputError, match=r"^objective\.importance_cap: is for nll; clipped compares"):
        split(split_config(tmp_path / "run", objective__importance_cap=2.0, objective__name="clipped"))


def test_without_vllm_in_this_process() -> None:
    try:
        import vllm  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(InputError, match=r"^sampler: vllm is not installed here: pip install"):
            engine_for(base_policy(), SamplerConfig("vllm"), torch.float32)
