"""Files that the configuration names, and that cannot be used. Each returns the error of a server."""

import os

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from tests.support.broken.site import Case, Site, name_of_nobody
from tests.support.certificates import Authority, encrypted_key
from tests.support.processes import free_port


def missing_key(site: Site) -> str:
    site.pair()
    site.with_tls("pair.pem", "lost.key")
    return (
        f'region north: tls_key "{site.folder}/lost.key" does not exist; '
        "check the path, which is relative to the configuration file"
    )


def mismatched_key(site: Site) -> str:
    site.pair()
    Authority().issue(site.folder / "other.pem", "127.0.0.1")
    key = (site.folder / "other.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE")[0]
    site.write(key, "other.key")
    site.with_tls("pair.pem", "other.key")
    return (
        f'region north: tls_key "{site.folder}/other.key" does not belong to tls_certificate "{site.folder}/pair.pem"; '
        "name the key with which this certificate was requested"
    )


def expired_certificate(site: Site) -> str:
    certificate = load_pem_x509_certificate(site.pair(expired=True).read_bytes())
    site.with_tls("pair.pem", "pair.pem")
    day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    return f'region north: tls_certificate "{site.folder}/pair.pem" expired on {day}; renew it'


def early_certificate(site: Site) -> str:
    certificate = load_pem_x509_certificate(site.pair(early=True).read_bytes())
    site.with_tls("pair.pem", "pair.pem")
    since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return (
        f'region north: tls_certificate "{site.folder}/pair.pem" is not valid before {since}; '
        "check the clock of this machine"
    )


def locked_key(site: Site) -> str:
    site.pair()
    encrypted_key(site.folder / "locked.key")
    site.with_tls("pair.pem", "locked.key")
    return (
        f'region north: tls_key "{site.folder}/locked.key" is encrypted with a password; decrypt it, since tagferry '
        f"cannot ask for its password: openssl pkey -in {site.folder}/locked.key"
    )


def chain_in_the_wrong_order(site: Site) -> str:
    authority = Authority()
    pair, issuer = site.pair(authority), authority.write(site.folder / "ca.pem")
    site.write(issuer.read_bytes() + pair.read_bytes(), "chain.pem")
    site.with_tls("chain.pem", "pair.pem")
    return (
        f'region north: tls_certificate "{site.folder}/chain.pem" has its certificates in the wrong order; '
        "put the server's own certificate first, then the one that issued it, and so on"
    )


def swapped_files(site: Site) -> str:
    key, _, certificate = site.pair().read_bytes().partition(b"-----BEGIN CERTIFICATE")
    site.write(key, "server.key")
    site.write(b"-----BEGIN CERTIFICATE" + certificate, "server.pem")
    site.with_tls("server.key", "server.pem")
    return (
        f'region north: tls_certificate "{site.folder}/server.key" has a private key and no certificate; '
        "name the certificate here, and its key in tls_key (and 1 more error; list them with --check)"
    )


def binary_certificate(site: Site) -> str:
    certificate = load_pem_x509_certificate(site.pair().read_bytes())
    path = site.write(certificate.public_bytes(Encoding.DER), "server.der")
    site.with_tls("server.der", "pair.pem")
    return f'region north: tls_certificate "{path}" is not PEM but DER; convert it: openssl x509 -inform der -in {path}'


def certificate_in_a_directory(site: Site) -> str:
    site.pair()
    (site.folder / "certs").mkdir()
    site.with_tls("certs", "pair.pem")
    return f'region north: tls_certificate "{site.folder}/certs" is a directory; name a regular file'


def key_in_a_pipe(site: Site) -> str:
    site.pair()
    os.mkfifo(site.folder / "key.pipe")
    site.with_tls("pair.pem", "key.pipe")
    return f'region north: tls_key "{site.folder}/key.pipe" is not a regular file; name a regular file'


def unreadable_key(site: Site) -> str:
    site.pair().chmod(0o644)
    site.write((site.folder / "pair.pem").read_bytes(), "root.key").chmod(0)
    site.with_tls("pair.pem", "root.key")
    site.as_nobody()
    return (
        f'region north: tls_key "{site.folder}/root.key" cannot be read by user {name_of_nobody()}; '
        "let this user read the file, and enter the directories above it"
    )


def missing_authorities(site: Site) -> str:
    site.configure('registry = "https://registry.example"\nca_file = "x.pem"')
    return (
        f'region north: ca_file "{site.folder}/x.pem" does not exist; '
        "check the path, which is relative to the configuration file"
    )


def authorities_without_a_certificate(site: Site) -> str:
    site.write("hello", "x.pem")
    site.configure('registry = "https://registry.example"\nca_file = "x.pem"')
    return (
        f'region north: ca_file "{site.folder}/x.pem" has no certificate in PEM; '
        "name a file that begins with -----BEGIN CERTIFICATE-----"
    )


def damaged_authorities(site: Site) -> str:
    site.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x.pem")
    site.configure(more='[[webhooks]]\nurl = "https://hook.example"\ncluster_id = "c"\nca_file = "x.pem"')
    return f'webhook 1: ca_file "{site.folder}/x.pem" has a damaged certificate; get the file again from the authority'


def mismatched_client_key(site: Site) -> str:
    site.pair()
    other = Authority().issue(site.folder / "other.pem", "127.0.0.1")
    pair = 'client_certificate = "pair.pem"\nclient_key = "other.pem"'
    site.configure(f'registry = "https://registry.example"\n{pair}')
    return (
        f'region north: client_key "{other}" does not belong to client_certificate "{site.folder}/pair.pem"; '
        "name the key with which this certificate was requested"
    )


def missing_docker_configuration(site: Site) -> str:
    site.configure('registry = "https://registry.example"\ndocker_config = "config.json"')
    return (
        f'region north: docker_config "{site.folder}/config.json" does not exist; '
        "check the path, which is relative to the configuration file"
    )


def broken_docker_configuration(site: Site) -> str:
    site.write("{auths", "config.json")
    site.configure('registry = "https://registry.example"\ndocker_config = "config.json"')
    return (
        f'region north: docker_config "{site.folder}/config.json" is not JSON; '
        "name the config.json of docker, or the auth.json of podman"
    )


def wrong_proxy_of_the_environment(site: Site) -> str:
    site.configure('registry = "https://registry.example"')
    site.environment["HTTPS_PROXY"] = "socks5://proxy.example"
    return "HTTPS_PROXY must be the URL of an HTTP proxy; SOCKS is not supported"


def audit_log_without_a_directory(site: Site) -> str:
    site.configure(top='audit_log = "logs/audit.log"')
    log = site.folder / "logs" / "audit.log"
    return f'audit_log "{log}" cannot be created, since "{log.parent}" is not a directory; create that directory'


def audit_log_that_is_a_pipe(site: Site) -> str:
    site.configure(top='audit_log = "audit.log"')
    os.mkfifo(site.folder / "audit.log")
    return f'audit_log "{site.folder}/audit.log" is not a regular file; name a file that this user may write'


def missing_token_of_metrics(site: Site) -> str:
    site.configure(top=f'metrics_listen = "127.0.0.1:{free_port()}"\nmetrics_token_file = "metrics.token"')
    return (
        f'metrics_token_file "{site.folder}/metrics.token" does not exist; '
        "check the path, which is relative to the configuration file"
    )


def short_token_of_metrics(site: Site) -> str:
    site.write("secret\n", "metrics.token")
    site.configure(top=f'metrics_listen = "127.0.0.1:{free_port()}"\nmetrics_token_file = "metrics.token"')
    return (
        f'metrics_token_file "{site.folder}/metrics.token" must have a token of 16 to 4096 bytes; '
        "write one with: openssl rand -hex 32"
    )


FILES: tuple[Case, ...] = (
    missing_key,
    mismatched_key,
    expired_certificate,
    early_certificate,
    locked_key,
    chain_in_the_wrong_order,
    swapped_files,
    binary_certificate,
    certificate_in_a_directory,
    key_in_a_pipe,
    unreadable_key,
    missing_authorities,
    authorities_without_a_certificate,
    damaged_authorities,
    mismatched_client_key,
    missing_docker_configuration,
    broken_docker_configuration,
    wrong_proxy_of_the_environment,
    audit_log_without_a_directory,
    audit_log_that_is_a_pipe,
    missing_token_of_metrics,
    short_token_of_metrics,
)
