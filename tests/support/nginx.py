"""nginx in front of a registry, with TLS and client certificates."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import free_port, stop, wait_until_it_listens
from tests.support.programs import require_program


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
    config = folder / "nginx.conf"
    config.write_text(_config(folder, address, upstream, certificate, clients))
    command = [require_program("nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until_it_listens(process, address)
        yield f"https://{address}"
    finally:
        stop(process)


def _config(folder: Path, address: str, upstream: str, certificate: Path, clients: Path | None) -> str:
    verify = f"ssl_client_certificate {clients}; ssl_verify_client on;" if clients else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As in the registry's documentation: blobs of any size, streamed, and the address that clients used.
    return f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  {temporary}
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
  }}
}}
"""
