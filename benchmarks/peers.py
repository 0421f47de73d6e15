"""Other gateways to measure beside Floway. ``make bench-peers`` installs them.

Each function starts one. ``installed`` is the folder with what was installed: a virtual environment ``python`` with the
gateways from PyPI, another one for LiteLLM, and ``node_modules``.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import chat_wire, wire
from benchmarks.processes import free_port
from benchmarks.targets import Target, start_gateway

DOOR_MODEL = "bench-door"
"""LiteLLM's name of the model for chat clients whose upstream speaks the Responses API."""
KEY = "sk-bench"


def nginx(upstream_url: str, cpus: set[int], folder: Path, installed: Path) -> Target:
    """nginx as a plain reverse proxy, the lower bound of what relaying costs."""
    binary = _find("nginx", Path("/usr/sbin"), Path("/usr/local/sbin"))
    port = free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(upstream=urlsplit(upstream_url).netloc, port=port))
    command = [binary, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off;"]
    version = _read_output(binary, "-v").rpartition("/")[2]
    return start_gateway("nginx", _url(port), command, cpus, folder, version=version)


def litellm(upstream_url: str, cpus: set[int], folder: Path, installed: Path) -> Target:
    """LiteLLM's proxy with one worker. It translates for chat clients, and for chat upstreams."""
    binary = _find("litellm", installed / "litellm" / "bin")
    port, config = free_port(), folder / "litellm.json"
    models = {
        wire.MODEL: f"openai/{wire.MODEL}",
        DOOR_MODEL: f"openai/responses/{wire.MODEL}",
        chat_wire.MODEL: f"hosted_vllm/{chat_wire.MODEL}",
    }
    config.write_text(
        json.dumps(
            {
                "model_list": [
                    {
                        "model_name": name,
                        "litellm_params": {"model": model, "api_base": upstream_url, "api_key": "none"},
                        "model_info": {"supports_reasoning": True},
                    }
                    for name, model in models.items()
                ],
                "general_settings": {"master_key": KEY},
                "litellm_settings": {"telemetry": False, "drop_params": True},
            }
        )
    )
    return start_gateway(
        "LiteLLM",
        _url(port),
        [binary, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
        cpus,
        folder,
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        version=_python_version(binary, "litellm"),
        headers={"authorization": f"Bearer {KEY}"},
        exact=False,
        takes_messages=True,
        chat_model=chat_wire.MODEL,
        door_model=DOOR_MODEL,
    )


def smg(upstream_url: str, cpus: set[int], folder: Path, installed: Path) -> Target:
    """SGLang's Model Gateway, which keeps conversations in memory. It translates nothing."""
    binary, port = _find("smg", installed / "python" / "bin"), free_port()
    command = [binary, "launch", "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    command += ["--backend", "openai", "--worker-urls", _origin(upstream_url), "--history-backend", "memory"]
    about = {"version": _python_version(binary, "smg"), "exact": False, "stores_conversations": True}
    return start_gateway("smg", _url(port), command, cpus, folder, **about)


def agentic_api(upstream_url: str, cpus: set[int], folder: Path, installed: Path) -> Target:
    """The vLLM project's gateway, which stores conversations in SQLite. It translates nothing."""
    binary, port = _find("agentic-server", installed / "python" / "bin"), free_port()
    command = [binary, "--gateway-host", "127.0.0.1", "--gateway-port", str(port), "--skip-llm-ready-check"]
    command += ["--llm-api-base", _origin(upstream_url), "--db-url", f"sqlite://{folder / 'agentic.db'}"]
    about = {"version": _python_version(binary, "agentic-api"), "exact": False, "stores_conversations": True}
    return start_gateway("agentic-api", _url(port), command, cpus, folder, **about)


def portkey(upstream_url: str, cpus: set[int], folder: Path, installed: Path) -> Target:
    """Portkey's gateway, on Node.js."""
    package = installed / "node_modules" / "@portkey-ai" / "gateway"
    binary, port = _find("gateway", installed / "node_modules" / ".bin"), free_port()
    return start_gateway(
        "Portkey",
        _url(port),
        [binary, f"--port={port}", "--headless"],
        cpus,
        folder,
        environ={"NODE_ENV": "production"},
        version=json.loads((package / "package.json").read_text())["version"],
        headers={
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": upstream_url,
            "authorization": f"Bearer {KEY}",
        },
        exact=False,
    )


PEERS = {"nginx": nginx, "litellm": litellm, "smg": smg, "agentic-api": agentic_api, "portkey": portkey}
"""By the name on the command line."""


def _find(name: str, *folders: Path) -> str:
    """Return the path of a program.

    :raises FileNotFoundError: it is not installed.
    """
    places = os.pathsep.join(str(folder.absolute()) for folder in folders)
    binary = shutil.which(name, path=places) or (shutil.which(name) if name == "nginx" else None)
    if not binary:
        raise FileNotFoundError(f"{name} is not installed")
    return binary


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/responses"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _python_version(binary: str, distribution: str) -> str:
    query = f"import importlib.metadata; print(importlib.metadata.version({distribution!r}))"
    return _read_output(str(Path(binary).parent / "python"), "-c", query)


def _read_output(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.strip()


_NGINX = """
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  client_max_body_size 64m;
  client_body_buffer_size 4m;
  keepalive_requests 1000000;
  upstream fake {{ server {upstream}; keepalive 2048; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://fake;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""
