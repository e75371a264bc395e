"""The HTTP API of the Tinker service on the loopback, as far as the SDK's public models tell it, over `tinker_model`.

Requests and answers are read and written with the SDK's own classes: JSON by its pydantic models, training rows and what comes
of them by its protobuf messages. Work is a promise that is fetched; requests of one training run are carried out in the order
of their numbers, whatever order they come in. The first look at a promise answers `try_again`, as a busy service does.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tinker import types
from tinker.proto import tinker_public_pb2 as proto

from .tinker_model import Adapter, Sampler, State

PROTO = "application/x-protobuf"
CHUNK_ROWS = 2
"""Rows of one request: batches of the tests come in several."""
KEY = "tml-of-the-tests"
_NUMBERS = {proto.DTYPE_FLOAT32: np.float32, proto.DTYPE_INT64: np.int64}


class Refused(Exception):
    """An answer that is an error of the asker's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class NotYet(Exception):
    """A request that waits for those with smaller numbers."""


class TinkerService:
    """What the service knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stuck: set[str] = set()
        """Verbs whose promises never come true."""
        self.norms = True
        """Whether a step tells the norm of its gradient."""
        self.told_name: str | None = None
        """What exported weights are called, instead of their names."""
        self.losses: list[str] = []
        """Asked for, in the order of their coming; `forward` before those without gradient."""
        self.exported: dict[str, bytes] = {}
        self.finished: list[str] = []
        self._lock = threading.Lock()
        self._promises: dict[str, Callable[[], tuple[str, bytes]] | tuple[str, bytes]] = {}
        self._looked: set[str] = set()
        self._runs: dict[str, Adapter] = {}
        self._next: dict[str, int] = {}
        self._waiting: dict[tuple[str, int], Callable[[], None]] = {}
        self._states: dict[str, State] = {}
        self._samplers: dict[str, Sampler] = {}
        self._sessions = 0

    def post(self, path: str, body: bytes, url: str) -> tuple[str, bytes]:
        """(content type, answer). Raises `Refused`."""
        del url
        verb = path.removeprefix("/api/v1/")
        if verb == "forward_backward":
            return self._forward_backward(proto.ForwardBackwardRequest.FromString(body))
        if verb.startswith("sessions/"):
            self.finished.append(json.loads(body)["reason"]["type"])
            return _json(None)
        handler = getattr(self, f"_{verb.replace('/', '_')}", None)
        if handler is None:
            raise Refused(f"{path} is not known", 404)
        told: tuple[str, bytes] = handler(json.loads(body))
        return told

    def get(self, path: str, url: str) -> tuple[str, bytes]:
        """(content type, answer). Raises `Refused`."""
        if path.startswith("/files/"):
            return "application/octet-stream", self.exported[path.removeprefix("/files/")]
        if path.startswith("/api/v1/samplers/"):
            name = path.rsplit("/", 1)[1]
            return _json({"sampler_id": name, "base_model": str(self.folder)})
        if path.endswith("/external_weights_urls"):
            urls = {self.told_name or name: f"{url}/files/{name}" for name in self.exported}
            return _json({"urls": urls, "expires": "2030-01-01T00:00:00Z"})
        raise Refused(f"{path} is not known", 404)

    # -- sessions ----------------------------------------------------------------------------------------------------------

    def _client_config(self, _asked: Mapping[str, Any]) -> tuple[str, bytes]:
        return _model(types.ClientConfigResponse(fwdbwd_max_chunk_len=CHUNK_ROWS))

    def _client_dynamic_config(self, _asked: Mapping[str, Any]) -> tuple[str, bytes]:
        return _model(types.ClientDynamicConfigResponse())

    def _create_session(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        types.CreateSessionRequest.model_validate(asked)
        self._sessions += 1
        return _model(types.CreateSessionResponse(session_id=f"session-{self._sessions}"))

    def _session_heartbeat(self, _asked: Mapping[str, Any]) -> tuple[str, bytes]:
        return _model(types.SessionHeartbeatResponse())

    def _telemetry(self, _asked: Mapping[str, Any]) -> tuple[str, bytes]:
        return _json({"status": "accepted"})

    # -- promises ----------------------------------------------------------------------------------------------------------

    def _promise(self, verb: str, work: Callable[[], tuple[str, bytes]], **more: Any) -> tuple[str, bytes]:
        with self._lock:
            name = f"promise-{len(self._promises)}-of-{verb}"
            self._promises[name] = work
        return _model(types.UntypedAPIFuture(request_id=name, **more))

    def _retrieve_future(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        name = types.FutureRetrieveRequest.model_validate(asked).request_id
        if name not in self._looked or name.partition("-of-")[2] in self.stuck:
            self._looked.add(name)
            return _try_again(name)
        with self._lock:
            work = self._promises[name]
            if callable(work):
                try:
                    work = work()
                except NotYet:
                    return _try_again(name)
                except Refused as error:
                    work = _json({"error": str(error), "category": "user"})
                self._promises[name] = work
        return work

    def _in_order(self, run: str, number: int, work: Callable[[], tuple[str, bytes]], verb: str) -> tuple[str, bytes]:
        """A promise of `work`, carried out once all requests of the run with smaller numbers have been."""
        done: list[tuple[str, bytes] | Refused] = []

        def carry_out() -> None:
            try:
                done.append(work())
            except Refused as error:
                done.append(error)

        with self._lock:
            self._waiting[run, number] = carry_out
            while (ready := self._waiting.pop((run, self._next[run]), None)) is not None:
                ready()
                self._next[run] += 1

        def told() -> tuple[str, bytes]:
            if not done:
                raise NotYet
            if isinstance(done[0], Refused):
                raise done[0]
            return done[0]

        return self._promise(verb, told, model_id=run)

    # -- training ----------------------------------------------------------------------------------------------------------

    def _create_model(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.CreateModelRequest.model_validate(asked)
        if request.base_model != str(self.folder):
            raise Refused(f"There is no base model {request.base_model}", 404)
        assert request.lora_config is not None
        name = f"{request.session_id}:train:{request.model_seq_id}"
        self._runs[name] = Adapter(self.folder, request.lora_config.rank, request.lora_config.seed or 0)
        self._next[name] = 1
        return self._promise("create_model", lambda: _model(types.CreateModelResponse(model_id=name)))

    def _get_info(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        name = types.GetInfoRequest.model_validate(asked).model_id
        data = types.ModelData(model_name=str(self.folder), tokenizer_id=str(self.folder))
        return _model(types.GetInfoResponse(model_data=data, model_id=name, lora_rank=self._runs[name].rank))

    def _forward_backward(self, asked: Any) -> tuple[str, bytes]:
        rows = [(_tokens(row), {name: _tensor(one) for name, one in row.loss_fn_inputs.items()}) for row in asked.data]
        assert len(rows) <= CHUNK_ROWS
        config = {name: one.number for name, one in asked.loss_fn_config_v2.items()}
        self.losses.append(f"forward {asked.loss_fn}" if asked.forward_only else asked.loss_fn)

        def work() -> tuple[str, bytes]:
            try:
                total, logprobs = self._runs[asked.model_id].learn(rows, asked.loss_fn, config, not asked.forward_only)
            except ValueError as error:
                raise Refused(str(error)) from error
            return PROTO, _output(total, logprobs).SerializeToString()

        return self._in_order(asked.model_id, asked.seq_id, work, "forward_backward")

    def _optim_step(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.OptimStepRequest.model_validate(asked)

        def work() -> tuple[str, bytes]:
            norm = self._runs[request.model_id].step(asked["adam_params"])
            return _model(types.OptimStepResponse(metrics={"unclipped_grad_l2:mean": norm} if self.norms else None))

        return self._in_order(request.model_id, _number(request), work, "optim_step")

    # -- weights -----------------------------------------------------------------------------------------------------------

    def _save_weights(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.SaveWeightsRequest.model_validate(asked)
        path = f"tinker://{request.model_id}/weights/{request.path}"

        def work() -> tuple[str, bytes]:
            if path in self._states:
                raise Refused(f"{path} is there already")
            self._states[path] = self._runs[request.model_id].state()
            return _model(types.SaveWeightsResponse(path=path))

        return self._in_order(request.model_id, _number(request), work, "save_weights")

    def _load_weights(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.LoadWeightsRequest.model_validate(asked)
        state = self._states.get(request.path)
        if state is None:
            raise Refused(f"There is no {request.path}", 404)
        assert request.optimizer
        name = f"{request.session_id}:train:{request.model_seq_id}"
        self._runs[name] = Adapter(self.folder, state.rank, 0)
        self._runs[name].load(state)
        self._next[name] = 1
        return self._promise("load_weights", lambda: _model(types.LoadWeightsResponse(path=request.path, model_id=name)))

    def _save_weights_for_sampler(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.SaveWeightsForSamplerRequest.model_validate(asked)
        name = f"sampler-of-{request.model_id}-{request.seq_id}"

        def work() -> tuple[str, bytes]:
            self._samplers[name] = Sampler(self.folder, self._runs[request.model_id].state())
            return _json({"sampling_session_id": name, "type": "save_weights_for_sampler"})

        return self._in_order(request.model_id, _number(request), work, "save_weights_for_sampler")

    def _save_weights_external(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.SaveWeightsExternalRequest.model_validate(asked)

        def work() -> tuple[str, bytes]:
            with TemporaryDirectory() as folder:
                self._runs[request.model_id].model.save_pretrained(folder, save_embedding_layers=False)
                names = ("adapter_config.json", "adapter_model.safetensors")
                self.exported = {name: (Path(folder) / name).read_bytes() for name in names}
            return _json({"path": f"tinker://{request.model_id}/external_weights/{request.path}"})

        return self._in_order(request.model_id, _number(request), work, "save_weights_external")

    # -- sampling ----------------------------------------------------------------------------------------------------------

    def _create_sampling_session(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.CreateSamplingSessionRequest.model_validate(asked)
        assert request.base_model == str(self.folder)
        name = f"sampler-{request.session_id}-{request.sampling_session_seq_id}"
        self._samplers[name] = Sampler(self.folder, None)
        return _model(types.CreateSamplingSessionResponse(sampling_session_id=name))

    def _asample(self, asked: Mapping[str, Any]) -> tuple[str, bytes]:
        request = types.SampleRequest.model_validate(asked)
        sampler, prompt = self._samplers[str(request.sampling_session_id)], request.prompt.to_ints()
        params = request.sampling_params.model_dump()
        random = torch.Generator()
        if params["seed"] is not None:
            random.manual_seed(params["seed"])

        def work() -> tuple[str, bytes]:
            answer = proto.SampleResponse()
            for _ in range(request.num_samples):
                tokens, logprobs, ended = sampler.draw(prompt, params, random)
                answer.sequences.add(
                    tokens=np.array(tokens, np.int32).tobytes(),
                    logprobs=np.array(logprobs, np.float32).tobytes(),
                    stop_reason=proto.STOP_REASON_STOP if ended else proto.STOP_REASON_LENGTH,
                )
            if request.prompt_logprobs:
                answer.prompt_logprobs = np.array(sampler.prompt_logprobs(prompt), np.float32).tobytes()
            return PROTO, answer.SerializeToString()

        names = [f"{request.sampling_session_id}-{request.seq_id}-{at}" for at in range(request.num_samples)]
        return self._promise("asample", work, sample_sequence_ids=names)


@contextmanager
def serving(service: TinkerService) -> Iterator[str]:
    """The service on a free port of the loopback; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(lambda: service.post(self.path, body, url))

        def do_GET(self) -> None:
            self._answer(lambda: service.get(self.path, url))

        def log_message(self, *_args: Any) -> None:
            pass

        def _answer(self, work: Callable[[], tuple[str, bytes]]) -> None:
            status = 200
            try:
                if not self.path.startswith("/files/") and self.headers.get("X-API-Key") != KEY:
                    raise Refused("This key is not known", 401)
                content, answer = work()
            except Refused as error:
                status, (content, answer) = error.status, _json({"error": str(error)})
            except Exception as error:  # a fault of this file: the SDK would try for minutes after a 500
                status, (content, answer) = 422, _json({"error": repr(error)})
            self.send_response(status)
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()


def _model(value: Any) -> tuple[str, bytes]:
    return "application/json", value.model_dump_json(exclude_none=True).encode()


def _try_again(name: str) -> tuple[str, bytes]:
    return _json({"type": "try_again", "request_id": name, "queue_state": "active"})


def _number(request: Any) -> int:
    assert request.seq_id is not None
    return int(request.seq_id)


def _tokens(row: Any) -> list[int]:
    return [int(one) for chunk in row.model_input for one in np.frombuffer(chunk.encoded_text.tokens, np.int32)]


def _tensor(message: Any) -> Any:
    assert message.WhichOneof("encoding") == "dense"
    return np.frombuffer(message.dense, _NUMBERS[message.dtype]).copy().reshape(list(message.shape))


def _output(total: float, logprobs: list[Any]) -> Any:
    """The answer to a batch: the sum of its losses, and the log-probs of its rows end to end."""
    answer = proto.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord", metrics={"loss:sum": total})
    record = answer.loss_fn_outputs.add(type_tag="ArrayRecord", num_datums=len(logprobs))
    ends = np.cumsum([0, *(len(one) for one in logprobs)]).astype(np.int64) * 4
    record.fields["logprobs"].CopyFrom(
        proto.BatchedTensor(
            data=torch.cat(logprobs).numpy().astype(np.float32).tobytes(), offsets=ends.tobytes(), dtype=proto.DTYPE_FLOAT32
        )
    )
    return answer
