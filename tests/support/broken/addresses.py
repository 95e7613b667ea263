"""Addresses that cannot be listened on. Each returns the error of a server."""

import os
import socket
from pathlib import Path

from tests.support.broken.site import Case, Site


def address_of_two_regions(site: Site) -> str:
    site.configure(more=f'[regions.south]\nlisten = "127.0.0.1:{site.port}"')
    return (
        f'region south: listen "127.0.0.1:{site.port}" has the same port and address as '
        f'region north: listen "127.0.0.1:{site.port}"; give each of them a port of its own'
    )


def address_within_that_of_another_region(site: Site) -> str:
    site.configure(more=f'[regions.south]\nlisten = "0.0.0.0:{site.port}"')
    return (
        f'region south: listen "0.0.0.0:{site.port}" has the same port and address as '
        f'region north: listen "127.0.0.1:{site.port}"; give each of them a port of its own'
    )


def metrics_on_the_address_of_a_region(site: Site) -> str:
    site.configure(top=f'metrics_listen = "localhost:{site.port}"')
    return (
        f'metrics_listen "localhost:{site.port}" has the same port and address as '
        f'region north: listen "127.0.0.1:{site.port}"; give each of them a port of its own'
    )


def address_in_use(site: Site) -> str:
    held = site.stack.enter_context(socket.create_server(("127.0.0.1", site.port)))
    assert held
    program = Path("/proc/self/comm").read_text().strip()
    return (
        f'region north: listen "127.0.0.1:{site.port}" is in use by process {os.getpid()} ({program}); '
        "stop that process, or use another port"
    )


def address_of_another_machine(site: Site) -> str:
    site.configure(f'listen = "192.0.2.1:{site.port}"')
    return (
        f'region north: listen "192.0.2.1:{site.port}" is not an address of this machine; '
        "use an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
    )


def address_of_no_host(site: Site) -> str:
    site.configure(f'listen = "no..host:{site.port}"')
    return (
        f'region north: listen "no..host:{site.port}" has a host that cannot be resolved; '
        "use an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
    )


def address_with_a_scheme(site: Site) -> str:
    site.configure('listen = "http://127.0.0.1:5004"')
    return 'tagferry.toml: region north: listen must have the form HOST:PORT: got "http://127.0.0.1:5004"'


def privileged_port(site: Site) -> str:
    site.configure('listen = "127.0.0.1:80"')
    site.as_nobody()
    return (
        'region north: listen "127.0.0.1:80" needs a privilege, as all ports below 1024 do; '
        "use a higher port behind a proxy, or give the process the capability CAP_NET_BIND_SERVICE"
    )


ADDRESSES: tuple[Case, ...] = (
    address_of_two_regions,
    address_within_that_of_another_region,
    metrics_on_the_address_of_a_region,
    address_in_use,
    address_of_another_machine,
    address_of_no_host,
    address_with_a_scheme,
    privileged_port,
)
