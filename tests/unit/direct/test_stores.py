"""Where copies without a server look for credentials and images."""

import os
from pathlib import Path

import pytest

from tagferry.direct.references import parse_image
from tagferry.direct.stores import RegistryAccess, Stores, credential_files
from tagferry.errors import NotFound
from tagferry.names import Tag


def test_a_login_of_skopeo_or_podman_is_found_with_and_without_a_session():
    session = {"HOME": "/home/ann", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert credential_files(session) == [
        "/run/user/7/containers/auth.json",
        "/home/ann/.config/containers/auth.json",
        "/home/ann/.docker/config.json",
    ]
    assert credential_files({"HOME": "/home/ann"})[0] == f"/run/containers/{os.getuid()}/auth.json"


def test_a_file_that_is_named_is_the_only_one():
    assert credential_files({"HOME": "/home/ann", "REGISTRY_AUTH_FILE": "/etc/auth.json"}) == ["/etc/auth.json"]


@pytest.mark.parametrize(("prefix", "name", "kind"), [("", "app.tar", "archive"), ("oci:", "app", "OCI layout")])
async def test_a_source_that_does_not_exist_is_named_as_what_it_is(tmp_path: Path, prefix: str, name: str, kind: str):
    stores = Stores(RegistryAccess(), state_directory=str(tmp_path / "state"))
    store, repository = stores.open(parse_image(f"{prefix}{tmp_path}/{name}", field="SOURCE"))

    with pytest.raises(NotFound) as missing:
        await store.get_manifest(repository, Tag("v1"))
    await stores.close()

    assert missing.value.message.startswith(f"{kind} ")
    assert missing.value.message.endswith(f'{name}" does not exist; check its path, and that it has an index.json')
