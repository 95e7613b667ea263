"""nginx in front of a registry, with TLS and client certificates, and as a load balancer."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import free_port, stop, wait_until_it_listens
from tests.support.programs import require_program

SERVER_HEADER = "X-Server"
"""The header in which `nginx_balancer` names the server that answered."""


@contextmanager
def nginx(folder: Path, upstream: str, certificate: Path, *, clients: Path | None = None) -> Iterator[str]:
    """Run nginx on loopback with its files in a folder, and yield its URL.

    Args:
        folder: its own.
        upstream: the URL of the registry.
        certificate: PEM file with the server's certificate and key.
        clients: PEM file with the authority whose certificate a client has to show.
    """
    address = f"127.0.0.1:{free_port()}"
    with _running(folder, address, _registry(address, upstream, certificate, clients)):
        yield f"https://{address}"


@contextmanager
def nginx_balancer(folder: Path, address: str, servers: Sequence[str]) -> Iterator[None]:
    """Run nginx in front of servers: each request goes to the next server, and past servers that are down.

    Args:
        folder: its own.
        address: where it listens.
        servers: the addresses of the servers.
    """
    with _running(folder, address, _balancer(address, servers)):
        yield


@contextmanager
def _running(folder: Path, address: str, servers: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_config(folder, servers))
    command = [require_program("nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until_it_listens(process, address)
        yield
    finally:
        stop(process)


def _config(folder: Path, servers: str) -> str:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  {temporary}
{servers}
}}
"""


def _registry(address: str, upstream: str, certificate: Path, clients: Path | None) -> str:
    verify = f"ssl_client_certificate {clients}; ssl_verify_client on;" if clients else ""
    # As in the registry's documentation: blobs of any size, streamed, and the address that clients used.
    return f"""
  server {{
    listen {address} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    {verify}
    client_max_body_size 0;
    chunked_transfer_encoding on;
    location /v2/ {{
      proxy_pass {upstream};
      proxy_set_header Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_read_timeout 900;
    }}
  }}"""


def _balancer(address: str, servers: Sequence[str]) -> str:
    # The answers say which server gave them. What nginx does by default stays: it buffers answers, and it takes the
    # servers in turn.
    return f"""
  upstream servers {{ {"".join(f"server {server};" for server in servers)} }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://servers;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_http_version 1.1;
      add_header {SERVER_HEADER} $upstream_addr always;
    }}
  }}"""
