"""vLLM as a sampler: a server, which is given a policy's adapter anew at each `sync`, or an engine in this process,
which is given its weights.

Either way a request is all that counts. What ends a completion is what it asks for (a model's own end of text is
nothing special), its dice are its own, and log-probabilities are those at temperature 1. vLLM computes in its own way,
so what it reports is not to the last digit what the learner says; `objective.importance_cap` corrects for that.
"""

import copy
import math
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from clew.attention import inner
from clew.config import SamplerConfig, SamplingConfig
from clew.errors import InputError
from clew.policy import Policy, reference_nll
from clew.rollout.serving import SamplerError, call, server_url, side_by_side, takes, told
from clew.rollout.trees import training_batch
from clew.rollout.types import Completion, Context, Request
from clew.text import one_line, show
from clew.world import Stop

GREEDY_BELOW = 0.01  # a temperature that vLLM would raise to this is none
APART = 0.2  # nats a token, on the mean, between what two computations of one policy say; fp8 stays well below
PROBED = 16  # tokens
AT_START = 30.0  # seconds that a server may take to say what it is

_Result = TypeVar("_Result")
_Written = tuple[list[int], list[float], Any]
"""tokens, their log-probabilities, how it ended"""


def _asked(request: Request, sampling: SamplingConfig) -> dict[str, Any]:
    """A request in vLLM's words, which are the same for its server and its engine."""
    greedy = sampling.temperature < GREEDY_BELOW
    asked = {
        "n": 1 if greedy else request.copies,
        "max_tokens": request.max_tokens,
        "temperature": 0.0 if greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop": list(request.stop.strings),
        "stop_token_ids": list(request.stop.token_ids),
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "skip_special_tokens": False,
        "logprobs": 0,
        # Said, since a model folder's generation_config.json may have other defaults.
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if greedy:
        return asked
    # vLLM gives copy j the seed + j: requests whose seeds are neighbours would throw the same dice.
    seed = np.random.SeedSequence(request.seed).generate_state(1, "u8")[0] >> 2
    return asked | {"seed": int(seed)}


def _vocabulary(policy: Policy) -> int:
    return int(policy.model.get_input_embeddings().weight.shape[0])  # type: ignore[operator,arg-type]


def _check_window(requests: Sequence[Request], window: int) -> None:
    """InputError for a request that the engine would cut short without a word."""
    for request in requests:
        read = len(request.context.ids())
        if read + request.max_tokens > window:
            need = f"{read} tokens are read and up to {request.max_tokens} written"
            raise InputError(f"sampler: {need}, more than the {window} that vLLM was started with (max-model-len)")


def _completions(request: Request, count: int, written: list[_Written], vocabulary: int, name: str) -> list[Completion]:
    """The completions of a request for `count`, of which one stands for all copies where those are greedy.

    SamplerError for what no sampler can have written.
    """
    if len(written) != count:
        raise SamplerError(f"{name} gave {len(written)} completions where {count} were asked for")
    for tokens, logps, finish in written:
        if not (isinstance(tokens, list) and isinstance(logps, list)) or len(tokens) != len(logps):
            raise SamplerError(f"{name} gave tokens {show(tokens)} with log-probabilities {show(logps)}")
        if not 1 <= len(tokens) <= request.max_tokens or any(
            type(token) is not int or not 0 <= token < vocabulary for token in tokens
        ):
            raise SamplerError(f"{name} gave {show(tokens)} where 1 to {request.max_tokens} tokens belong")
        if any(type(logp) is not float or not -math.inf < logp < 0.01 for logp in logps):
            raise SamplerError(f"{name} gave {show(logps)} where log-probabilities belong")
        if finish not in ("stop", "length"):
            raise SamplerError(f"{name} ended a completion by {show(finish)}; expected stop or length")
    return [
        Completion(request.context, request.role, list(tokens), list(logps), finish)
        for tokens, logps, finish in written * (request.copies // count)
    ]


class VllmServer:
    """Samples from an adapter policy at a vLLM server that serves its base.

    At each `sync` the adapter is written into `folder`, which the server has to see under the same path, and loaded
    under a name that it never had, since a server keeps what it computed under a name; the one before is unloaded. In
    several processes the first does that, and all of them sample.

    The first `sync` tells whether the server is there, takes adapters of this rank and serves this policy's base:
    InputError if not. After that SamplerError, for a server that has failed or says what no sampler can.
    """

    def __init__(self, url: str, folder: Path, timeout: float = 600.0, accelerator: Accelerator | None = None):
        self.url, self.folder, self.timeout, self.accelerator = server_url(url), folder.absolute(), timeout, accelerator
        self.run, self.version, self.held = uuid.uuid4().hex[:12], 0, ""
        self.model, self.window, self.vocabulary = "", 0, 0

    def sync(self, policy: Policy) -> None:
        if policy.adapter is None:
            raise InputError(
                "sampler.url: a server takes adapters, and these policies are whole models; "
                "train adapters (--policies adapters, or adapter), or leave the url out: vLLM in this process"
            )
        self.vocabulary = _vocabulary(policy)
        self.model, self.window = self._agreed(partial(self._put, policy))

    def sample(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
        """The completions asked for; all contexts go to the server side by side. SamplerError if it fails."""
        _check_window(requests, self.window)
        several = side_by_side(partial(self._written, sampling), requests)
        return [completion for some in several for completion in some]

    def close(self) -> None:
        """Takes the adapter back."""
        if self.held:
            self._drop(self.held)
            self.held = ""
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # another sampler's may stand beside it
                self.folder.parent.rmdir()

    def _written(self, sampling: SamplingConfig, request: Request, model: str = "") -> list[Completion]:
        asked = _asked(request, sampling)
        body = {"model": model or self.model, "prompt": request.context.ids(), "return_token_ids": True} | asked
        said = told(f"{self.url}/v1/completions", body, self.timeout)
        try:
            choices = sorted(said["choices"], key=lambda one: one["index"])
            written = [(one["token_ids"], one["logprobs"]["token_logprobs"], one["finish_reason"]) for one in choices]
        except (KeyError, TypeError):
            raise SamplerError(f"{self.url} answered {show(said)} where completions belong") from None
        return _completions(request, asked["n"], written, self.vocabulary, self.url)

    def _agreed(self, work: Callable[[], _Result]) -> _Result:
        """What the first process's work comes to, for all of them; its error is everybody's."""
        if self.accelerator is None or self.accelerator.num_processes == 1:
            return work()
        self.accelerator.wait_for_everyone()  # nobody samples any more from what is now replaced
        said: list[Any] = [None]
        if self.accelerator.is_main_process:
            try:
                said = [work()]
            except (InputError, SamplerError) as error:
                said = [error]
        broadcast_object_list(said)
        if isinstance(said[0], Exception):
            raise said[0]
        return said[0]

    def _put(self, policy: Policy) -> tuple[str, int]:
        """Loads a policy's adapter into the server; returns its name there, and the tokens that a row may have."""
        first, before = not self.version, self.held
        window = self._window() if first else self.window
        if first:
            shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        self.version += 1
        name = f"clew-{self.run}-{self.version}"
        policy.save_adapter(self.folder / name)
        try:
            body = {"lora_name": name, "lora_path": str(self.folder / name)}
            taken = takes(f"{self.url}/v1/load_lora_adapter", body, self.timeout)
            self.held = name
            if not taken:
                how = "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
                raise SamplerError(f"{self.url} takes no adapters at run time; {how}")
            if first:
                self._probe(policy, name, window)
        except SamplerError as error:
            self.held = self.held or name  # so that its folder goes, whatever the server made of it
            if not first:
                raise
            self.close()
            raise InputError(f"sampler.url: {error}") from None
        if before:
            self._drop(before)
        return name, window

    def _drop(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        with suppress(SamplerError):  # a server that is gone, or has forgotten it: whoever samples next finds out
            call(f"{self.url}/v1/unload_lora_adapter", {"lora_name": name}, min(AT_START, self.timeout), pauses=())

    def _window(self) -> int:
        """The tokens that a row may have, as the server says. InputError unless it is there, and a vLLM."""
        try:
            said = told(f"{self.url}/v1/models", timeout=min(AT_START, self.timeout))
            window = next(one["max_model_len"] for one in said["data"] if not one.get("parent"))
            if type(window) is not int:
                raise TypeError
        except SamplerError as error:
            raise InputError(f"sampler.url: {error}") from None
        except (KeyError, TypeError, AttributeError, StopIteration):
            raise InputError(f"sampler.url: {self.url} does not say which model it serves, as vLLM would") from None
        return window

    def _probe(self, policy: Policy, name: str, window: int) -> None:
        """SamplerError unless the server reports what the policy says of the same tokens, about."""
        spread = np.linspace(0, len(policy.tokenizer) - 1, min(8, max(1, window - PROBED))).astype(int).tolist()
        request = Request(Context(spread, "prompt"), "answer", max(1, min(PROBED, window - len(spread))), Stop())
        # At a temperature of its own, which shows whether log-probabilities are those at 1.
        done = self._written(SamplingConfig(temperature=0.5), request, name)[0]
        batch = training_batch([(done, 1.0)], policy.pad_token_id)
        assert batch is not None
        policy.activate()
        own_nll_S = reference_nll(policy, policy, batch)
        apart = float(np.abs(np.add(own_nll_S.tolist(), done.logps)).mean())
        if not apart <= APART:
            raise SamplerError(
                f"{self.url} serves another model than this policy's base: its log-probabilities are {apart:.2f} nats "
                f"a token apart, more than {APART} (or it does not report those of --logprobs-mode raw_logprobs)"
            )


@dataclass
class Engine:
    """A vLLM in this process, which holds the weights of one policy at a time."""

    llm: Any
    window: int
    held: Any = None
    """the sampler whose policy's weights it holds as they stand"""


class VllmEngine:
    """Samples from a policy by an engine in this process, which several policies of one shape may share.

    `sync` takes no copy; weights go into the engine when it is asked for completions, and were not the last to go.
    """

    def __init__(self, engine: Engine, policy: Policy):
        self.engine, self.policy = engine, policy

    def sync(self, policy: Policy) -> None:
        self.policy = policy
        self.engine.held = None

    def sample(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Completion]:
        """The completions asked for, all at once. InputError for a row that is longer than the engine's window."""
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        _check_window(requests, self.engine.window)
        if self.engine.held is not self:
            self._hand_over()
        prompts = [{"prompt_token_ids": request.context.ids()} for request in requests]
        params = [SamplingParams(**_asked(request, sampling)) for request in requests]
        several = self.engine.llm.generate(prompts, params, use_tqdm=False) if prompts else []
        done: list[Completion] = []
        for request, param, one in zip(requests, params, several, strict=True):
            written = [_read(output) for output in sorted(one.outputs, key=lambda output: output.index)]
            done += _completions(request, param.n, written, _vocabulary(self.policy), "vllm")
        return done

    def close(self) -> None:
        """Ends the engine, whoever else samples by it."""
        self.engine.llm.llm_engine.engine_core.shutdown()

    def _hand_over(self) -> None:
        """Puts the policy's weights into the engine, and forgets what it computed with those before."""
        weights = self.policy.plain_weights(merged=True) or inner(self.policy.model).state_dict()
        self.engine.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights.items())})
        self.engine.llm.reset_prefix_cache()
        self.engine.held = self


def _read(output: Any) -> _Written:
    tokens = list(output.token_ids)
    logps = [float(some[token].logprob) for token, some in zip(tokens, output.logprobs, strict=True)]
    return tokens, logps, output.finish_reason


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Without a module that is imported: vLLM on a CPU looks through all of them, and stumbles over numba's library."""
    kept = sys.modules.pop(module, None)
    try:
        yield
    finally:
        if kept is not None:
            sys.modules[module] = kept


def engine_for(policy: Policy, config: SamplerConfig, dtype: torch.dtype) -> Engine:
    """An engine in this process for policies of this one's shape; it has no weights yet.

    InputError where vLLM is not installed, or cannot have such a model.
    """
    # Read by vLLM when it is imported: in this very process, by whatever threads this process has, and quietly.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import LLM  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            'sampler: vllm is not installed here: pip install "clew-spans[vllm]", or name a server: --url'
        ) from None
    on_cpu = policy.model.device.type == "cpu"
    model_config = copy.copy(inner(policy.model).config)
    model_config.architectures = [type(inner(policy.model)).__name__]
    # vLLM seeds every dice of the process, and warms up; the run's own go on as if it had not.
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), _hidden("llvmlite.binding.ffi"):
        model_config.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        try:
            llm = LLM(
                folder,
                load_format="dummy",
                dtype=str(dtype).removeprefix("torch."),
                max_model_len=config.window,
                kv_cache_memory_bytes=int(config.cache * 2**30),
                logprobs_mode="raw_logprobs",
                generation_config="vllm",
                enforce_eager=on_cpu,  # to compile takes longer than it saves a small model
                enable_chunked_prefill=False
                if on_cpu
                else None,  # vLLM 0.32 on a CPU fails at it where seeds are given
                disable_log_stats=True,
            )
        except (ValueError, RuntimeError, NotImplementedError, KeyError, AssertionError) as error:
            raise InputError(f"sampler: vllm cannot have this model: {one_line(error)[:300]}") from None
    return Engine(llm, llm.llm_engine.vllm_config.model_config.max_model_len)
