"""The configuration and the files that it names: who can read them, certificates and their keys, and space on disks."""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tagferry.app.regions import registry_root
from tagferry.app.startup.secrets import key_file
from tagferry.diagnosis.certificates import parse_pem
from tagferry.diagnosis.model import Component, Finding, Findings, Level
from tagferry.file_faults import user_name
from tagferry.names import RegionId
from tagferry.registry.storage.free_space import FreeSpace
from tagferry.settings import RegionSettings, Settings

_OTHERS_READ, _OTHERS_WRITE, _OTHERS_ENTER = 0o004, 0o002, 0o001
_SECRETS = frozenset({"password", "secret", "secret_key", "notifications_token", "metrics_token"})
"""Settings that are secret themselves."""
_URLS = frozenset({"database_url", "proxy"})
"""Settings that are secret if the URL has a password."""
_LOW_BYTES = 256 * 1024 * 1024
_LOW_SHARE = 0.05


def check_configuration(settings: Settings, file: Path) -> list[Finding]:
    """Check the settings that are valid, but may not be what the operator wants."""
    findings = Findings(Component.CONFIGURATION, str(file))
    for renamed in settings.renamed:
        findings.warning(
            f"{renamed.old} has a new name, {renamed.new}",
            f"rename {renamed.old} to {renamed.new} in the configuration",
        )
    for name, region in settings.regions.items():
        section = f"regions.{name}"
        if region.insecure_skip_verify:
            findings.warning(
                f"{section}.insecure_skip_verify is true, so anyone on the network can pretend to be the registry",
                f"set ca_file in [{section}] to the authority of its certificate, and remove insecure_skip_verify",
            )
        if region.registry.startswith("http://") and _has_credentials(region) and not _is_local(region.registry):
            findings.warning(
                f"the credentials of region {name} are sent without TLS to {region.registry}",
                f"set registry in [{section}] to an https:// URL",
            )
    for address, names in _by_address(settings).items():
        if len(names) > 1:
            findings.problem(
                f"{' and '.join(names)} have the same address {address}, so only one of them can be served",
                "give each of them an address of its own",
            )
    if findings.is_clean:
        served, count = len(settings.served_regions), len(settings.regions)
        findings.ok(f"valid, with {count} region{'' if count == 1 else 's'}, of which {served} served here")
    return findings.all


def check_files(settings: Settings, file: Path) -> list[Finding]:
    """Check who can read and write the files of the installation, and that they belong to one user."""
    findings = Findings(Component.FILES, str(settings.data_dir))
    _check_data_directory(findings, settings)
    secret = [key_file(settings), *_keys(settings)]
    if _contains_secrets(file):
        secret.append(file)
    for path in secret:
        if mode := _open_to_others(path, _OTHERS_READ):
            findings.warning(
                f"every local user can read this file, which contains secrets (mode {mode:o})",
                f"run: chmod o-rwx {path}",
                subject=str(path),
            )
    for path in (file, settings.data_dir, *secret, *_database_files(settings)):
        if mode := _open_to_others(path, _OTHERS_WRITE):
            findings.problem(
                f"every local user can change this path (mode {mode:o})", f"run: chmod o-w {path}", subject=str(path)
            )
    if findings.is_clean:
        findings.ok("belongs to one user, and no other user can read the secrets")
    return findings.all


def check_certificates(settings: Settings) -> list[Finding]:
    """Check the certificates that this process presents to clients."""
    return [finding for name in settings.served_regions for finding in _check_certificate(name, settings)]


def disk_faults(settings: Settings) -> dict[RegionId, tuple[Level, str]]:
    """Return what is wrong with the disks of embedded registries, by region: writes fail, or will do so soon."""
    found = {}
    for name, root in _embedded(settings):
        disk = FreeSpace(root, settings.limits.disk_reserve_bytes)
        if (fault := disk.write_error()) is not None:
            found[name] = Level.PROBLEM, fault.partition(";")[0]
        elif (fault := disk.scarcity()) is not None:
            found[name] = Level.WARNING, fault
    return found


def check_disks(settings: Settings) -> list[Finding]:
    """Check the disks of the data directory and of the embedded registries; one finding names all that use a disk."""
    findings = Findings(Component.DISK)
    users: dict[int, dict[str, Path]] = {}
    for name, path in ((str(settings.data_dir), settings.data_dir), *_embedded(settings)):
        if (device := _device(path)) is not None:
            users.setdefault(device, {})[name] = path
    faults = disk_faults(settings)
    for on_disk in users.values():
        _check_disk(findings, on_disk, faults, settings.data_dir)
    return findings.all


def _check_disk(
    findings: Findings, users: Mapping[str, Path], faults: Mapping[RegionId, tuple[Level, str]], data: Path
) -> None:
    """Check a disk; `users` are the regions and the data directory on it, `faults` those of all regions."""
    space = FreeSpace(next(iter(users.values()))).space()
    shown = f"{_size(space.free)} of {_size(space.total)} are free" if space is not None else "unknown"
    is_low = space is not None and space.free < min(_LOW_BYTES, int(space.total * _LOW_SHARE))
    groups: dict[tuple[Level, str], list[str]] = {}
    for name, path in users.items():
        if path != data:
            groups.setdefault(faults.get(RegionId(name), (Level.OK, "")), []).append(name)
        elif not is_low:
            groups.setdefault((Level.OK, ""), []).append(name)
    if is_low and data in users.values():
        # Named together with the regions for which the disk is full, too.
        failing = next((group for group in groups if group[0] is Level.PROBLEM), (Level.PROBLEM, ""))
        groups.setdefault(failing, []).insert(0, str(data))
    for (level, fault), names in groups.items():
        subject = ", ".join(names)
        if level is Level.OK:
            findings.ok(shown, subject=subject)
        elif level is Level.WARNING:
            findings.warning(fault, "free some space, or enlarge the disk", subject=subject)
        else:
            regions = [name for name in names if name != str(data)]
            effects = []
            if regions:
                effects.append(f"pushes and syncs to {'this region' if len(regions) == 1 else 'these regions'} wait")
            if str(data) in names:
                effects.append("the database may fail")
            findings.problem(
                f"{': '.join(filter(None, [fault, shown]))}, so {' and '.join(effects)}",
                "free some space or enlarge the disk, give the server's user write access, or lower "
                "limits.disk_reserve_bytes"
                if regions
                else "free some space, or enlarge the disk",
                subject=subject,
            )


def _embedded(settings: Settings) -> Iterator[tuple[RegionId, Path]]:
    """Yield the embedded regions with their directories, as far as these exist."""
    for name, region in settings.regions.items():
        root = registry_root(settings, name)
        if region.is_embedded and root.is_dir():
            yield RegionId(name), root


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def _check_data_directory(findings: Findings, settings: Settings) -> None:
    data = settings.data_dir
    try:
        found = data.stat()
    except FileNotFoundError:
        findings.warning(
            "does not exist yet; the first start creates it", f"check data_dir if {data} is not a new installation"
        )
        return
    except OSError:
        # The checks of a start report it.
        return
    if found.st_uid != os.geteuid() and os.geteuid():
        findings.warning(
            f"belongs to {_user(found.st_uid)}, but doctor runs as {_user(os.geteuid())}, so it cannot see everything",
            f"run doctor as {user_name(found.st_uid)}",
        )
    for path in (key_file(settings), *_database_files(settings), *sorted(data.glob("registries/*"))):
        owner = _owner(path)
        if owner is not None and owner != found.st_uid:
            findings.problem(
                f"belongs to {_user(owner)}, but the data directory to {_user(found.st_uid)}, who cannot use it then",
                f"run: chown -R {user_name(found.st_uid)} {path}",
                subject=str(path),
            )


def _check_certificate(name: str, settings: Settings) -> list[Finding]:
    region = settings.regions[name]
    findings = Findings(Component.ADDRESS, region.listen or "")
    if region.tls_certificate is None or region.tls_key is None:
        return []
    try:
        certificate = parse_pem(region.tls_certificate.read_bytes())
    except OSError:
        certificate = None
    if certificate is None or certificate.is_expired():
        # The checks of a start report it.
        return []
    if certificate.expires_soon():
        findings.warning(
            f"the certificate that clients of region {name} get expires at {certificate.expires_at:%Y-%m-%d %H:%M} UTC",
            f"renew it, and replace {region.tls_certificate}; a restart is not needed",
        )
    host = urlsplit(region.public_url or "").hostname
    if host and not certificate.covers(host):
        findings.problem(
            f"the certificate of region {name} is for {certificate.issued_for}, and not for {host} of public_url",
            f"get a certificate for {host}, or correct public_url in [regions.{name}]",
        )
    return findings.all


def _by_address(settings: Settings) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, region in settings.served_regions.items():
        found.setdefault(region.listen or "", []).append(f"region {name}")
    if settings.metrics_listen:
        found.setdefault(settings.metrics_listen, []).append("metrics_listen")
    return found


def _has_credentials(region: RegionSettings) -> bool:
    return region.username is not None or region.docker_config is not None


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _keys(settings: Settings) -> Iterator[Path]:
    """Yield the files with secrets that the configuration names."""
    for region in settings.regions.values():
        for path in (region.tls_key, region.client_key, region.docker_config):
            if path is not None:
                yield path
    for path in (settings.metrics_token_file, settings.tracing.headers_file):
        if path is not None:
            yield path


def _database_files(settings: Settings) -> list[Path]:
    return sorted(settings.data_dir.glob("tagferry.db*"))


def _contains_secrets(file: Path) -> bool:
    try:
        return _has_secret(tomllib.loads(file.read_text("utf-8")))
    except (OSError, ValueError):
        return False


def _has_secret(section: Any) -> bool:
    if isinstance(section, list):
        return any(_has_secret(part) for part in section)
    if not isinstance(section, dict):
        return False
    return any(
        (key in _SECRETS and isinstance(value, str))
        or (key in _URLS and isinstance(value, str) and "@" in value)
        or _has_secret(value)
        for key, value in section.items()
    )


def _open_to_others(path: Path, bit: int) -> int | None:
    """Return the mode of a path that all local users can reach and use in this way; None for others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & bit or stat.S_ISVTX & mode:
            return None
        parents = path.resolve().parents
        return mode if all(parent.stat().st_mode & _OTHERS_ENTER for parent in parents) else None
    except OSError:
        return None


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _user(number: int) -> str:
    return f"user {user_name(number)}"


def _size(amount: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
