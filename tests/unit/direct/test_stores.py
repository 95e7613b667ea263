"""Where copies without a server look for credentials."""

import os

from tagferry.direct.stores import credential_files


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
