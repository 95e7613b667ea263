"""Configurations that cannot be read, or whose settings are invalid. Each returns the error of a server."""

from tests.support.broken.site import Case, Site


def mistyped_path(site: Site) -> str:
    site.arguments = ("--config", "tagfery.toml")
    return 'configuration "tagfery.toml" does not exist; did you mean "tagferry.toml"?'


def missing_path(site: Site) -> str:
    path = site.folder / "nowhere" / "prod.toml"
    site.arguments = ("--config", str(path))
    return f'configuration "{path}" does not exist; check its path, or write one with: tagferry init --config {path}'


def lost_configuration(site: Site) -> str:
    site.with_database()
    (site.folder / "tagferry.toml").unlink()
    site.arguments = ()
    return (
        'configuration "tagferry.toml" does not exist, although "tagferry-data" has the data of an installation; '
        "restore the configuration, or write a new one with: tagferry init"
    )


def lost_configuration_of_another_data_directory(site: Site) -> str:
    site.environment["TAGFERRY_DATA_DIR"] = "elsewhere"
    (site.folder / "elsewhere" / "registries" / "north").mkdir(parents=True)
    (site.folder / "tagferry.toml").unlink()
    site.arguments = ()
    return (
        'configuration "tagferry.toml" does not exist, although "elsewhere" has the data of an installation; '
        "restore the configuration, or write a new one with: tagferry init"
    )


def path_of_a_directory(site: Site) -> str:
    site.arguments = ("--config", ".")
    return ". is a directory; name a file that this user may read"


def binary_configuration(site: Site) -> str:
    site.write(b"\xff\xfe\x00")
    return "tagferry.toml is not text in UTF-8; save it in this encoding"


def unquoted_text(site: Site) -> str:
    site.write("[regions.north]\nlisten = 127.0.0.1:5004\n")
    return "tagferry.toml: line 2, column 15, is not valid TOML; text needs quotes, and each setting a line of its own"


def key_set_twice(site: Site) -> str:
    site.write('[regions.north]\nlisten = "127.0.0.1:1"\nlisten = "127.0.0.1:2"\n')
    return "tagferry.toml: line 3, column 23, is not valid TOML; a key is set twice, remove one"


def misspelled_key(site: Site) -> str:
    site.configure("max_conections = 5")
    return 'tagferry.toml: region north: max_conections is an unknown setting; did you mean "max_connections"?'


def misspelled_section(site: Site) -> str:
    site.write('[region.north]\nlisten = "127.0.0.1:1"\n')
    return (
        'tagferry.toml: region is an unknown setting; did you mean "regions"? '
        "(and 1 more error; list them with --check)"
    )


def key_in_another_section(site: Site) -> str:
    site.configure(more='data_dir = "data"')
    return (
        "tagferry.toml: region north: data_dir is an unknown setting; "
        "it belongs at the top of the file, before all sections"
    )


def text_for_a_number(site: Site) -> str:
    site.configure('max_connections = "many"')
    return 'tagferry.toml: region north: max_connections must be a whole number: got "many"'


def number_out_of_range(site: Site) -> str:
    site.configure(more="[quotas]\nbytes = -1")
    return "tagferry.toml: quotas.bytes must be at least 0: got -1"


def unknown_choice(site: Site) -> str:
    site.configure(top='log_level = "loud"')
    return 'tagferry.toml: log_level must be "debug", "info", "warning" or "error": got "loud"'


def wrong_variable(site: Site) -> str:
    site.environment["TAGFERRY_SYNC__MAX_CONCURRENT_TAGS"] = "lots"
    return 'TAGFERRY_SYNC__MAX_CONCURRENT_TAGS must be a whole number: got "lots"'


def variable_without_json(site: Site) -> str:
    site.environment["TAGFERRY_REGIONS"] = "north"
    return "TAGFERRY_REGIONS must be JSON, since it sets several settings; set single ones as TAGFERRY_REGIONS__…"


def registry_with_a_path(site: Site) -> str:
    site.configure('registry = "https://ghcr.io/acme"')
    return 'tagferry.toml: region north: registry must have no path; use https://ghcr.io: got "https://ghcr.io/acme"'


def user_without_a_password(site: Site) -> str:
    site.configure('registry = "https://ghcr.io"\nusername = "robot"')
    return "tagferry.toml: region north requires username and password together; set or remove both"


def no_regions(site: Site) -> str:
    site.write('data_dir = "data"\n')
    return "tagferry.toml: regions must name at least one region, in a section [regions.ID]"


SETTINGS: tuple[Case, ...] = (
    mistyped_path,
    missing_path,
    lost_configuration,
    lost_configuration_of_another_data_directory,
    path_of_a_directory,
    binary_configuration,
    unquoted_text,
    key_set_twice,
    misspelled_key,
    misspelled_section,
    key_in_another_section,
    text_for_a_number,
    number_out_of_range,
    unknown_choice,
    wrong_variable,
    variable_without_json,
    registry_with_a_path,
    user_without_a_password,
    no_regions,
)
