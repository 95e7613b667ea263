"""Names are accepted exactly if the rules, implemented here a second time in another way, accept them."""

import string
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagferry.errors import InvalidName
from tagferry.names import Digest, Namespace, Reference, RegionId, Repository, RepositoryName, Tag, parse_reference

LOWER = string.ascii_lowercase + string.digits
NEAR_MISSES = st.text(alphabet="ab1z9._-/$:AZ é\n", max_size=12)


def words(separators: list[str], longest: int, *, first: str = LOWER) -> st.SearchStrategy[str]:
    """Texts of the rules' grammar: words of letters and digits, with one separator between two words."""
    word = st.text(alphabet=LOWER, min_size=1, max_size=8)
    rest = st.lists(st.tuples(st.sampled_from(separators), word).map("".join), max_size=20).map("".join)
    head = st.tuples(st.sampled_from(first), st.text(alphabet=LOWER, max_size=8)).map("".join)
    return st.tuples(head, rest).map("".join).filter(lambda text: len(text) <= longest)


def accepts(kind: Callable[[str], str], text: str) -> bool:
    try:
        kind(text)
    except InvalidName:
        return False
    return True


def is_separated(text: str, *, longest: int, separators: str, first: str) -> bool:
    """Check character by character, with only the number of preceding underscores as state."""
    state, underscores = "start", 0
    for character in text:
        if character in LOWER:
            if state == "start" and character not in first:
                return False
            state, underscores = "word", 0
        elif character not in separators or state == "start":
            return False
        elif state == "word":
            state, underscores = "separator", int(character == "_")
        elif character == "_" and underscores == 1:
            underscores = 2
        else:
            return False
    return state == "word" and len(text) <= longest


def is_namespace(text: str) -> bool:
    return is_separated(text, longest=64, separators="._-", first=string.ascii_lowercase)


def is_repository(text: str) -> bool:
    return is_separated(text, longest=128, separators="._-/", first=LOWER)


def is_tag(text: str) -> bool:
    alphabet = string.ascii_letters + string.digits + "_"
    return 1 <= len(text) <= 128 and text[0] in alphabet and all(c in alphabet + ".-" for c in text)


def is_region(text: str) -> bool:
    parts = text.split("-")
    return 1 <= len(text) <= 64 and all(part and all(c in LOWER for c in part) for part in parts)


def is_digest(text: str) -> bool:
    for algorithm, length in (("sha256", 64), ("sha512", 128)):
        prefix = algorithm + ":"
        if text.startswith(prefix):
            encoded = text[len(prefix) :]
            return len(encoded) == length and all(c in "0123456789abcdef" for c in encoded)
    return False


# --- organizations and repositories


@given(words([".", "_", "__", "-"], 64, first=string.ascii_lowercase))
def test_an_organization_that_the_grammar_builds_is_accepted_and_keeps_its_text(text):
    assert Namespace(text) == text


@given(words([".", "_", "__", "-", "/"], 128))
def test_a_repository_that_the_grammar_builds_is_accepted_and_keeps_its_text(text):
    assert Repository(text) == text


@given(NEAR_MISSES | st.text(max_size=70))
@example("a" * 64)
@example("a" * 65)
@example("")
@example("a\n")
def test_an_organization_is_accepted_exactly_if_the_rules_allow_it(text):
    assert accepts(Namespace, text) == is_namespace(text)


@given(NEAR_MISSES | st.text(max_size=140))
@example("a" * 128)
@example("a" * 129)
@example("")
@example("a\n")
def test_a_repository_is_accepted_exactly_if_the_rules_allow_it(text):
    assert accepts(Repository, text) == is_repository(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be 1 to 64 characters long"),
        ("a" * 65, "must be 1 to 64 characters long"),
        ("1team", "must start with a lowercase letter"),
        ("-team", "must start and end with a lowercase letter or digit"),
        ("team_", "must start and end with a lowercase letter or digit"),
        ("Team", "may contain only lowercase letters, digits and '.', '_', '-'"),
        ("te/am", "may contain only lowercase letters, digits and '.', '_', '-'"),
        ("te am", "may contain only lowercase letters, digits and '.', '_', '-'"),
        ("tëam", "may contain only lowercase letters, digits and '.', '_', '-'"),
        ("{namespace}", "may contain only lowercase letters, digits and '.', '_', '-'"),
        ("te..am", "must not have two of '.', '_', '-' next to each other"),
        ("te--am", "must not have two of '.', '_', '-' next to each other"),
        ("te_-am", "must not have two of '.', '_', '-' next to each other"),
        ("te___am", "must not have more than two consecutive underscores"),
    ],
)
def test_the_refusal_of_an_organization_names_field_rule_and_value(text, rule):
    with pytest.raises(InvalidName) as refusal:
        Namespace(text, field="remoteNamespace")
    assert (refusal.value.field, refusal.value.rule, refusal.value.value) == ("remoteNamespace", rule, text)
    assert refusal.value.message.startswith(f"remoteNamespace {rule}: got ")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be 1 to 128 characters long"),
        ("a" * 129, "must be 1 to 128 characters long"),
        ("/web", "must start and end with a lowercase letter or digit"),
        ("web/", "must start and end with a lowercase letter or digit"),
        ("a//b", "must not have two of '.', '_', '-', '/' next to each other"),
        ("a/_b", "must not have two of '.', '_', '-', '/' next to each other"),
        ("a___b", "must not have more than two consecutive underscores"),
        ("a:b", "may contain only lowercase letters, digits and '.', '_', '-', '/'"),
        ("WEB", "may contain only lowercase letters, digits and '.', '_', '-', '/'"),
    ],
)
def test_the_refusal_of_a_repository_names_field_rule_and_value(text, rule):
    with pytest.raises(InvalidName) as refusal:
        Repository(text)
    assert (refusal.value.field, refusal.value.rule, refusal.value.value) == ("repository", rule, text)


@pytest.mark.parametrize("text", ["a", "sdsad", "team-1", "a_b", "a__b", "a.b-c_d", "z9", "a" * 64])
def test_these_organizations_are_accepted(text):
    assert Namespace(text) == text


@pytest.mark.parametrize("text", ["a", "1", "web/front/api", "3scale", "a__b/c.d-e", "b" * 128])
def test_these_repositories_are_accepted(text):
    assert Repository(text) == text


@given(words([".", "_", "__", "-", "/"], 128))
def test_a_dollar_sign_in_a_path_parameter_reads_as_a_slash(text):
    assert Repository.from_path(text.replace("/", "$")) == text
    assert Repository.from_path(text) == text


def test_two_dollar_signs_in_a_row_are_refused_as_two_slashes():
    with pytest.raises(InvalidName, match="next to each other"):
        Repository.from_path("a$$b")


@given(words([".", "_", "__", "-"], 64, first=string.ascii_lowercase), words([".", "_", "__", "-", "/"], 128))
def test_every_organization_and_repository_join_to_a_registry_name_and_come_apart_again(namespace, repository):
    name = RepositoryName.of(Namespace(namespace), Repository(repository))
    assert (name.namespace, name.repository) == (namespace, repository)


@given(words([".", "_", "__", "-", "---", "/"], 255))
def test_a_registry_name_may_have_more_hyphens_than_an_organization(text):
    assert RepositoryName(text) == text


@pytest.mark.parametrize("text", ["", "A", "a/", "/a", "a//b", "a..b", "a___b", "a_.b", "a\n", "ä", "a" * 256, "a:b"])
def test_these_registry_names_are_refused(text):
    with pytest.raises(InvalidName) as refusal:
        RepositoryName(text)
    assert refusal.value.field == "name"


@pytest.mark.parametrize("text", ["alpine", "a--b/c"])
def test_a_registry_name_outside_of_the_organizations_rules_is_refused_only_when_it_is_narrowed(text):
    name = RepositoryName(text)
    with pytest.raises(InvalidName):
        _ = name.namespace, name.repository
    assert "/".join(part for part in (name.unchecked_namespace, name.unchecked_repository) if part) == text


# --- tags, digests, references, regions


@given(st.text(alphabet=string.ascii_letters + string.digits + "_.-", max_size=140) | NEAR_MISSES | st.text())
@example("v" * 128)
@example("v" * 129)
@example("v1\n")
@example("٣")
def test_a_tag_is_accepted_exactly_if_the_rules_allow_it(text):
    assert accepts(Tag, text) == is_tag(text)


@pytest.mark.parametrize(
    ("text", "rule"), [("", "must be 1 to 128"), ("v" * 129, "must be 1 to 128"), (".v1", "must start with a letter")]
)
def test_the_refusal_of_a_tag_names_field_rule_and_value(text, rule):
    with pytest.raises(InvalidName) as refusal:
        Tag(text, field="imageTag[0]")
    assert (refusal.value.field, refusal.value.value) == ("imageTag[0]", text)
    assert refusal.value.rule.startswith(rule)


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_a_digest_of_any_content_is_accepted_and_split(content, algorithm):
    digest = Digest.of(content, algorithm)
    assert Digest(digest) == f"{digest.algorithm}:{digest.encoded}"
    assert is_digest(digest)


@given(
    st.text(max_size=20)
    | st.tuples(
        st.sampled_from(["sha256:", "sha512:", "md5:", "SHA256:", "sha256"]),
        st.sampled_from([63, 64, 65, 128]).flatmap(
            lambda n: st.text(alphabet="0123456789abcdefAg\n", min_size=n, max_size=n)
        )
        | st.sampled_from(["a" * 64, "0" * 128, "a" * 63 + "\n", "A" * 64]),
    ).map("".join)
)
def test_a_digest_is_accepted_exactly_if_the_rules_allow_it(text):
    assert accepts(Digest, text) == is_digest(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("sha256", "must have the form algorithm:encoded"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "must use the algorithm sha256 or sha512"),
        ("sha256:abc", "must be followed by 64 lowercase hexadecimal digits"),
        ("sha256:" + "A" * 64, "must be followed by 64 lowercase hexadecimal digits"),
        ("sha512:" + "a" * 64, "must be followed by 128 lowercase hexadecimal digits"),
    ],
)
def test_the_refusal_of_a_digest_names_field_rule_and_value(text, rule):
    with pytest.raises(InvalidName) as refusal:
        Digest(text)
    assert (refusal.value.field, refusal.value.rule, refusal.value.value) == ("digest", rule, text)


def test_the_digest_of_nothing_is_the_well_known_one():
    assert Digest.of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(("text", "kind"), [("v1", Tag), ("sha256:" + "0" * 64, Digest)])
def test_a_reference_with_a_colon_is_a_digest_and_any_other_a_tag(text: str, kind: type[Reference]):
    assert type(parse_reference(text)) is kind


@given(NEAR_MISSES | words(["-"], 64) | st.text(max_size=70))
@example("a" * 64)
@example("a" * 65)
@example("cn--north")
@example("cn-north-4\n")
def test_a_region_is_accepted_exactly_if_the_rules_allow_it(text):
    assert accepts(RegionId, text) == is_region(text)


@pytest.mark.parametrize("text", ["cn-north-4", "cn-north-208", "local"])
def test_these_regions_are_accepted(text):
    assert RegionId(text) == text


@pytest.mark.parametrize("text", ["", "CN-North-4", "cn_north_4", "-cn", "cn-"])
def test_the_refusal_of_a_region_names_the_field_and_the_value(text):
    with pytest.raises(InvalidName) as refusal:
        RegionId(text, field="remoteRegionId")
    assert (refusal.value.field, refusal.value.value) == ("remoteRegionId", text)


def test_a_very_long_value_is_shortened_in_the_message():
    with pytest.raises(InvalidName) as refusal:
        Tag("v" * 100_000)
    assert len(refusal.value.message) < 300
