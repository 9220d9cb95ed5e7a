"""Runs an nginx of the tests' own in front of an executor."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.sshd import wait_until

NGINX = "/usr/sbin/nginx"
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # as Debian has it
_CONFIG = """\
load_module {stream};
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
"""
# As docs/remote.md has it, but for the folders.
_HTTP = """\
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{front};
        location / {{
            proxy_pass http://127.0.0.1:{back};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""
_STREAM = """\
stream {{
    server {{
        listen 127.0.0.1:{front};
        proxy_pass 127.0.0.1:{back};
    }}
}}
"""


@contextlib.contextmanager
def serve(folder: Path, kind: str, front: int, back: int) -> Iterator[None]:
    """Pass on what comes at one port to another: as ``"http"``, or byte by byte."""
    text = _CONFIG + (_HTTP if kind == "http" else _STREAM)
    config = folder / "nginx.conf"
    config.write_text(text.format(stream=STREAM, folder=folder, front=front, back=back))
    words = [NGINX, "-p", str(folder), "-c", str(config), "-e", str(folder / "log")]
    with subprocess.Popen(words, env={}) as process:
        try:
            wait_until("nginx", lambda: _answers(front))
            yield
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as end:
        return end.connect_ex(("127.0.0.1", port)) == 0
