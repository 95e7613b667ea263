"""Keys, databases and directories that cannot be used. Each returns the error of a server."""

import fcntl
import os
import socket
import sqlite3

from tagferry import __version__
from tagferry.registry.storage.lock import RootLock
from tests.support.broken.site import KEY, OTHER_KEY, Case, Site, name_of, name_of_nobody
from tests.support.disks import read_only
from tests.support.processes import free_port


def lost_key_file(site: Site) -> str:
    site.with_key()
    return (
        f'the key file "{site.data}/secret.key" does not exist, and the access keys in the database are encrypted with '
        "it; restore it from a backup or from another machine; "
        "if it is lost, delete all access keys with: tagferry key delete"
    )


def other_key_file(site: Site) -> str:
    site.with_key()
    site.write(OTHER_KEY, "tagferry-data/secret.key")
    return (
        f'the key file "{site.data}/secret.key" does not decrypt the access keys in the database; '
        "restore the key that encrypted them; if it is lost, delete all access keys with: tagferry key delete"
    )


def other_secret_key(site: Site) -> str:
    site.with_key()
    site.write(KEY, "tagferry-data/secret.key")
    site.environment["TAGFERRY_SECRET_KEY"] = OTHER_KEY
    return (
        "secret_key does not decrypt the access keys in the database; restore the key that encrypted them; "
        "if it is lost, delete all access keys with: tagferry key delete"
    )


def garbled_key_file(site: Site) -> str:
    site.with_key()
    site.write("not a key", "tagferry-data/secret.key")
    return (
        f'the key file "{site.data}/secret.key" has no valid Fernet keys (32 bytes, URL-safe base64); '
        "restore it from a backup, or if it is lost, put a new key into it: tagferry secret generate"
    )


def garbled_key_file_of_a_new_site(site: Site) -> str:
    site.data.mkdir(mode=0o700)
    site.write("", "tagferry-data/secret.key")
    return (
        f'the key file "{site.data}/secret.key" has no valid Fernet keys (32 bytes, URL-safe base64); '
        "restore it from a backup, or if it is lost, put a new key into it: tagferry secret generate"
    )


def garbled_secret_key(site: Site) -> str:
    site.environment["TAGFERRY_SECRET_KEY"] = "short"
    return (
        "secret_key must be Fernet keys (32 bytes, URL-safe base64), comma-separated, newest first; "
        "make one with: tagferry secret generate"
    )


def damaged_database(site: Site) -> str:
    site.with_database()
    os.truncate(site.database, site.database.stat().st_size // 2)
    return f'the database "{site.database}" is damaged; stop tagferry and restore it from a backup'


def database_of_another_program(site: Site) -> str:
    site.data.mkdir()
    with sqlite3.connect(site.database) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY)")
    connection.close()
    return (
        f'"{site.database}" contains tables of another program, such as "recipes"; '
        "name another database in database_url"
    )


def newer_database(site: Site) -> str:
    site.with_database()
    with sqlite3.connect(site.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    return (
        f"the database has revision 9999, which tagferry {__version__} does not support; "
        "use the newer version that upgraded it, or restore the backup from before the upgrade"
    )


def database_without_a_table(site: Site) -> str:
    site.with_database()
    with sqlite3.connect(site.database) as connection:
        connection.execute("DROP TABLE sync_rules")
    connection.close()
    return f'the database "{site.database}" lacks the table sync_rules; stop tagferry and restore it from a backup'


def database_of_an_unknown_kind(site: Site) -> str:
    site.configure(top='database_url = "oracle+nosuch://db/x"')
    return 'database_url must be a SQLAlchemy URL, as sqlite:///FILE or postgresql+psycopg://…: got "oracle+nosuch"'


def database_below_a_file(site: Site) -> str:
    site.configure(top='database_url = "sqlite:///tagferry.toml/sub/tagferry.db"')
    return (
        f'database_url: the directory "{site.folder}/tagferry.toml/sub" cannot be created, '
        f'since "{site.folder}/tagferry.toml" is not a directory; name another directory'
    )


def database_that_does_not_answer(site: Site) -> str:
    port = free_port()
    site.configure(top=f'database_url = "postgresql+psycopg://me@127.0.0.1:{port}/x"')
    return (
        f'the database does not answer: connection to server at "127.0.0.1", port {port} failed: Connection refused; '
        "check that PostgreSQL runs, and the host and the port in database_url"
    )


def empty_database_beside_data(site: Site) -> str:
    site.data.mkdir()
    site.database.touch()
    site.write(KEY, "tagferry-data/secret.key")
    return (
        f'the database "{site.database}" is empty, although there is data beside it; restore it from a backup, '
        "or delete the file to start without users and organizations"
    )


def data_directory_that_is_a_file(site: Site) -> str:
    site.write("", "tagferry-data")
    return f'data_dir "{site.data}" is not a directory; name a directory, or move what is in its place'


def data_directory_below_a_file(site: Site) -> str:
    site.configure(top='data_dir = "tagferry.toml/data"')
    return (
        f'data_dir "{site.folder}/tagferry.toml/data" cannot be created, '
        f'since "{site.folder}/tagferry.toml" is not a directory; name another directory'
    )


def data_directory_of_another_user(site: Site) -> str:
    site.data.mkdir()
    site.data.chmod(0o555)
    site.is_nobody = True
    owner = name_of(site.data.stat().st_uid)
    return (
        f'data_dir "{site.data}" cannot be written by user {name_of_nobody()}, because it belongs to {owner}; '
        f"run tagferry as {owner}, or change the owner with: chown -R"
    )


def data_directory_on_a_read_only_disk(site: Site) -> str:
    site.with_database()
    site.stack.enter_context(read_only(site.data))
    return f'data_dir "{site.data}" is on a read-only disk; check the disk, or how it is mounted'


def registry_in_use(site: Site) -> str:
    site.with_database()
    root = site.data / "registries" / "north"
    site.stack.callback(RootLock.take(root).release)
    return (
        f'the registry directory "{root}" is in use by process {os.getpid()} on {socket.gethostname()}; '
        "give each process its own data_dir, or connect to the region by its address (registry = …)"
    )


def database_in_use(site: Site) -> str:
    site.with_database()
    lock = site.stack.enter_context((site.data / "tagferry.db.lock").open("w"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    return f"another tagferry process uses {site.database}; to run several processes, set database_url to PostgreSQL"


def registry_that_is_a_file(site: Site) -> str:
    (site.data / "registries").mkdir(parents=True)
    root = site.write("", "tagferry-data/registries/north")
    return f'region north: the directory "{root}" is not a directory; name a directory, or move what is in its place'


STORAGE: tuple[Case, ...] = (
    lost_key_file,
    other_key_file,
    other_secret_key,
    garbled_key_file,
    garbled_key_file_of_a_new_site,
    garbled_secret_key,
    damaged_database,
    database_of_another_program,
    newer_database,
    database_without_a_table,
    database_of_an_unknown_kind,
    database_below_a_file,
    database_that_does_not_answer,
    empty_database_beside_data,
    data_directory_that_is_a_file,
    data_directory_below_a_file,
    data_directory_of_another_user,
    data_directory_on_a_read_only_disk,
    registry_that_is_a_file,
    registry_in_use,
    database_in_use,
)
