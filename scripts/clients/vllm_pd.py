"""vLLM: prefill and decode in two processes, connected by its MooncakeConnector.

The same prompts run in one process first; the tokens must be equal. A third run decodes with the
keys and values of another prompt, to show that the tokens depend on what was transferred.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.request

import vllm_model

HERE = pathlib.Path(__file__).resolve()
BUILD = HERE.parents[2] / "build" / "clients"
PROMPTS = 3
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING",
               "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",  # two at a time
               "VLLM_HOST_IP": "127.0.0.1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def load(role=None):
    from vllm import LLM
    from vllm.config import KVTransferConfig
    more = {}
    if role is not None:
        more["kv_transfer_config"] = KVTransferConfig(
            kv_connector="MooncakeConnector", kv_role=role, engine_id=role,
            kv_connector_extra_config={"mooncake_protocol": "tcp", "num_workers": 2})
    return LLM(model=vllm_model.make(BUILD / "model"), skip_tokenizer_init=True, dtype="float32",
               enforce_eager=True, max_model_len=512, seed=0, enable_prefix_caching=False,
               max_num_seqs=8, **more)


def generate(llm, number, new_tokens, parameters=None):
    from vllm import SamplingParams
    result = llm.generate(
        [{"prompt_token_ids": vllm_model.prompt(number)}],
        SamplingParams(temperature=0, max_tokens=new_tokens, detokenize=False, ignore_eos=True,
                       extra_args=parameters and {"kv_transfer_params": parameters}),
        use_tqdm=False)
    return list(result[0].outputs[0].token_ids)


def answer(role):
    """Reads requests, one JSON object a line, and answers each with the tokens."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    llm = load(None if role == "alone" else role)
    print("ready", file=out)
    for line in sys.stdin:
        print(json.dumps(generate(llm, **json.loads(line))), file=out)
    os._exit(0)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Process:
    """vLLM in a process of its own, which has further ones."""

    def __init__(self, role, bootstrap_port=0):
        paths = [str(HERE.parent / "cpu_device"), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, HERE, role], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths),
                 "VLLM_MOONCAKE_BOOTSTRAP_PORT": str(bootstrap_port)})
        self.bootstrap = f"http://127.0.0.1:{bootstrap_port}"

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM ended with status {self.process.wait()}")
        return line

    def generate(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.line())

    def engine_id(self):
        """As vLLM's router asks for it."""
        with urllib.request.urlopen(self.bootstrap + "/query") as answered:
            return next(iter(json.load(answered).values()))["engine_id"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def transfer(prefill, decode, name, number, decoded):
    """The prompt `number` is prefilled; `decoded` is decoded with its keys and values."""
    prefill.generate(number=number, new_tokens=1,
                     parameters={"do_remote_decode": True, "transfer_id": name})
    return decode.generate(
        number=decoded, new_tokens=vllm_model.NEW_TOKENS,
        parameters={"do_remote_prefill": True, "transfer_id": name,
                    "remote_engine_id": prefill.engine_id(),
                    "remote_bootstrap_addr": prefill.bootstrap})


def main():
    with Process("alone") as alone:
        alone.line()
        expected = [alone.generate(number=number, new_tokens=vllm_model.NEW_TOKENS)
                    for number in range(PROMPTS)]
    with Process("kv_producer", free_port()) as prefill, Process("kv_consumer") as decode:
        prefill.line()
        decode.line()
        for number, tokens in enumerate(expected):
            moved = transfer(prefill, decode, f"transfer-{number}", number, number)
            assert moved == tokens, f"prompt {number}: {moved}, one process gives {tokens}"
            print(f"prompt {number}: {len(tokens)} tokens, as in one process: {tokens}")
        other = transfer(prefill, decode, "other", 1, 0)
        assert other != expected[0], "the tokens do not depend on what was transferred"
        print("with another prompt's keys and values the tokens differ")


if __name__ == "__main__":
    answer(sys.argv[1]) if len(sys.argv) > 1 else main()
