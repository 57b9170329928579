"""The exporter-toolkit's file: what may stand in it, each mistake with its line, and what the context that comes of it lets in."""

from __future__ import annotations

import datetime
import re
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from syncwatch.config import ConfigError, check
from syncwatch.config.decode import default_of, keys_of
from syncwatch.config.webconfig import Headers, HttpServer, TlsServer, WebConfig, context, load, mistakes

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
NOT_A_HASH = "is not a bcrypt hash, which begins with $2y$, $2b$ or $2a$ and has 60 characters; htpasswd -nBC 10 USER makes one"
DAY = datetime.timedelta(days=1)


def certify(folder: Path, name: str, begins: datetime.timedelta = -DAY, ends: datetime.timedelta = DAY) -> None:
    """A certificate and its key, `name.pem` and `name.key`, valid between these, from now."""
    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now + begins).not_valid_after(now + ends).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys: a, b, one that has expired, one that is not valid yet."""
    made = tmp_path_factory.mktemp("certificates")
    for name in "ab":
        certify(made, name)
    certify(made, "old", ends=-DAY / 2)
    certify(made, "early", begins=DAY / 2)
    return made


def written(folder: Path, text: str) -> Path:
    """The file, beside the certificates."""
    file = folder / "web.yaml"
    file.write_text(text)
    return file


def said(folder: Path, text: str, *, dates: bool = False) -> list[str]:
    """Its mistakes, without the folder."""
    return [str(mistake).replace(f"{folder}/", "") for mistake in mistakes(written(folder, text), dates=dates)]


def test_everything_that_may_be_written(folder: Path) -> None:
    """Relative paths are relative to the file; users are secrets; a header that is not written is not added."""
    config = load(
        written(
            folder,
            f"""\
tls_server_config:
  cert_file: a.pem
  key_file: {folder}/a.key
  client_auth_type: VerifyClientCertIfGiven
  client_ca_file: b.pem
  min_version: TLS13
  max_version: TLS13
http_server_config:
  http2: false
  headers: {{Strict-Transport-Security: max-age=1, X-Frame-Options: deny, X-XSS-Protection: 0}}
basic_auth_users:
  prometheus: {HASH}
  123: {HASH.replace("2y", "2b")}
""",
        )
    )
    assert (folder / "a.pem", folder / "a.key", folder / "b.pem") == config.files
    assert {"Strict-Transport-Security": "max-age=1", "X-Frame-Options": "deny", "X-XSS-Protection": "0"} == config.headers
    assert {"prometheus": HASH, "123": HASH.replace("2y", "2b")} == {name: hashed.reveal() for name, hashed in config.users.items()}
    assert HASH not in repr(config)
    made = context(config)
    assert made is not None
    assert (ssl.CERT_OPTIONAL, ssl.TLSVersion.TLSv1_3) == (made.verify_mode, made.minimum_version)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n", "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n"])
def test_nothing_is_asked_for(folder: Path, text: str) -> None:
    """As the toolkit has it: no TLS, no users, no headers."""
    config = load(written(folder, text))
    assert (None, {}, {}, ()) == (context(config), config.users, config.headers, config.files)


PAIR = "cert_file: a.pem, key_file: a.key"
WRONG: dict[str, list[str]] = {
    "tls_server_config: {cert_file: a.pem}": ["1: tls_server_config.key_file: missing, expected a path"],
    "tls_server_config: {key_file: a.key}": ["1: tls_server_config.cert_file: missing, expected a path"],
    "\ntls_server_config:\n  cert_file: gone\n  key_file: .": [
        "3: tls_server_config.cert_file: gone: no such file", "4: tls_server_config.key_file: {folder}: is a directory",
    ],
    "tls_server_config: {cert_file: a.key, key_file: a.pem}": [
        "1: tls_server_config.cert_file: a.key: holds no certificate in PEM form", "1: tls_server_config.key_file: a.pem: holds no private key in PEM form",
    ],
    "tls_server_config: {cert_file: a.pem, key_file: b.key}": ["1: tls_server_config.cert_file: a.pem with b.key: key values mismatch"],
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}": [
        "1: tls_server_config.client_auth_type: RequireAnyClientCert takes certificates that nobody verified; write RequireAndVerifyClientCert or VerifyClientCertIfGiven"
    ],
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}": [
        "1: tls_server_config.client_auth_type: RequireAndVerifyClientCert needs client_ca_file, the authorities by which certificates are verified"
    ],
    f"tls_server_config: {{{PAIR}, client_ca_file: b.pem}}": [
        "1: tls_server_config.client_ca_file: is of no use while client_auth_type asks for no certificate; write RequireAndVerifyClientCert there"
    ],
    f"tls_server_config: {{{PAIR}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: b.key}}": [
        "1: tls_server_config.client_ca_file: b.key: holds no certificate in PEM form"
    ],
    f"tls_server_config: {{{PAIR}, min_version: TLS11}}": [
        "1: tls_server_config.min_version: TLS11 is not spoken here, it has been withdrawn (RFC 8996); write TLS12 or TLS13"
    ],
    f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}": ["1: tls_server_config.min_version: is above max_version"],
    f"tls_server_config: {{{PAIR}, client_allowed_sans: [x]}}": [
        "1: tls_server_config.client_allowed_sans: unknown key; known here: cert_file, key_file, client_auth_type, client_ca_file, min_version, max_version"
    ],
    "basic_auth_users:\n  p: hunter2\n  q: 12345\n  r:\n  's:t': " + HASH: [
        f"2: basic_auth_users.p: {NOT_A_HASH}", f"3: basic_auth_users.q: {NOT_A_HASH}", "4: basic_auth_users.r: expected a bcrypt hash, found nothing",
        '5: basic_auth_users."s:t": a user with a colon in its name could never log in: HTTP Basic ends the name there',
    ],
    f"basic_auth_users: {{p: {HASH[:28]}z{HASH[29:]}}}": [f"1: basic_auth_users.p: {NOT_A_HASH}"],
    "basic_auth_users: [p]": ["1: basic_auth_users: expected a mapping of users and bcrypt hashes, found a list"],
    "http_server_config: {http2: true}": ["1: http_server_config.http2: HTTP/2 is not spoken here; write false, or leave it out"],
    "http_server_config: {headers: {X-Content-Type-Options: sniff}}": [
        '1: http_server_config.headers.X-Content-Type-Options: "sniff" is not known here; did you mean nosniff? known: nosniff'
    ],
    "rate_limit: {burst: 1}": ["1: rate_limit: unknown key; known here: tls_server_config, http_server_config, basic_auth_users"],
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_each_mistake_names_its_line_and_key(folder: Path, text: str) -> None:
    """And never shows what stands where a hash should be."""
    told = said(folder, text)
    assert [f"web.yaml:{line}".replace("{folder}", str(folder)) for line in WRONG[text]] == told
    assert not [line for line in told if "hunter2" in line or "12345" in line]


def test_a_file_that_is_not_there_or_no_yaml(folder: Path) -> None:
    """One line."""
    assert ["web.yaml:1: not valid YAML"] == [line[:26] for line in said(folder, "{")]
    assert [f"{folder}/none: no such file"] == [str(one) for one in mistakes(folder / "none")]


def test_a_certificate_that_is_not_valid_today(folder: Path) -> None:
    """It can be served, so nothing is kept from starting; but whoever validates before a rollout is told."""
    texts = {name: f"tls_server_config: {{cert_file: {name}.pem, key_file: {name}.key}}" for name in ("a", "old", "early")}
    assert [[], [], []] == [said(folder, text) for text in texts.values()]
    assert {
        "a": [],
        "old": ["web.yaml:1: tls_server_config.cert_file: old.pem: the certificate has expired"],
        "early": ["web.yaml:1: tls_server_config.cert_file: early.pem: the certificate is not valid yet"],
    } == {name: said(folder, text, dates=True) for name, text in texts.items()}


def test_check_looks_into_it(folder: Path, tmp_path: Path) -> None:
    """`syncwatch check config` names the lines of both files; a file that is not there is told once, and a certificate that has expired is a warning."""
    file = tmp_path / "syncwatch.yaml"
    answers = []
    for name, text in (("web.yaml", "{}"), ("web.yaml", "\nbasic_auth_user: {}"), ("web.yaml", "tls_server_config: {cert_file: old.pem, key_file: old.key}"), ("gone", "")):
        written(folder, text)
        file.write_text(f"web_config: {folder}/{name}\nservices: [{{name: s, url: 'http://h'}}]\n")
        answers.append([[line.replace(f"{folder}/", "").replace(f"{tmp_path}/", "") for line in lines] for lines in check(file, {})])
    assert [
        [[], []],
        [["web.yaml:2: basic_auth_user: unknown key; did you mean basic_auth_users?"], []],
        [[], ["web.yaml:1: tls_server_config.cert_file: old.pem: the certificate has expired"]],
        [["syncwatch.yaml:1: web_config: gone: no such file"], []],
    ] == answers


def spoken(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """The version that a handshake in memory ends with, or why it is refused."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error.reason
    return ends[1].version()


def asking(least: ssl.TLSVersion, most: ssl.TLSVersion, folder: Path | None = None, certificate: str = "") -> ssl.SSLContext:
    """A client that takes any certificate, and may have one."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this client would not even try the old versions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version, client.maximum_version = least, most
    if folder is not None:
        client.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
    return client


V = ssl.TLSVersion


@pytest.mark.parametrize(
    ("keys", "least", "most", "version"),
    [
        ("", V.TLSv1_2, V.TLSv1_3, "TLSv1.3"),
        ("", V.TLSv1_2, V.TLSv1_2, "TLSv1.2"),
        ("", V.TLSv1_1, V.TLSv1_1, "UNSUPPORTED_PROTOCOL"),
        (", min_version: TLS13", V.TLSv1_2, V.TLSv1_2, "UNSUPPORTED_PROTOCOL"),
        (", max_version: TLS12", V.TLSv1_2, V.TLSv1_3, "TLSv1.2"),
        (", max_version: TLS12", V.TLSv1_3, V.TLSv1_3, "UNSUPPORTED_PROTOCOL"),
    ],
)
def test_which_versions_are_spoken(folder: Path, keys: str, least: ssl.TLSVersion, most: ssl.TLSVersion, version: str) -> None:
    """TLS 1.2 and 1.3, as far as the file allows them; an older client is refused by us."""
    made = context(load(written(folder, f"tls_server_config: {{{PAIR}{keys}}}")))
    assert made is not None
    assert version == spoken(made, asking(least, most))


@pytest.mark.parametrize(
    ("kind", "none", "stranger"),
    [
        ("NoClientCert", "TLSv1.3", "TLSv1.3"),
        ("VerifyClientCertIfGiven", "TLSv1.3", "CERTIFICATE_VERIFY_FAILED"),
        ("RequireAndVerifyClientCert", "PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_whose_certificates_are_wanted(folder: Path, kind: str, none: str, stranger: str) -> None:
    """Without one, with one of the authority, with one of a stranger."""
    authority = "" if kind == "NoClientCert" else ", client_ca_file: b.pem"
    made = context(load(written(folder, f"tls_server_config: {{{PAIR}, client_auth_type: {kind}{authority}}}")))
    assert made is not None

    assert none == spoken(made, asking(V.TLSv1_2, V.TLSv1_3))
    assert "TLSv1.3" == spoken(made, asking(V.TLSv1_2, V.TLSv1_3, folder, "b"))
    assert stranger == spoken(made, asking(V.TLSv1_2, V.TLSv1_3, folder, "a"))


def test_an_encrypted_key_is_an_error_and_no_question(folder: Path) -> None:
    """OpenSSL would ask the terminal for its password."""
    key = serialization.load_pem_private_key((folder / "a.key").read_bytes(), None)
    locked = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    (folder / "locked.key").write_bytes(locked)
    with pytest.raises(ConfigError, match=r"locked\.key: "):
        context(load(written(folder, "tls_server_config: {cert_file: a.pem, key_file: locked.key}")))


KEYS = sorted({key for block in (WebConfig, TlsServer, HttpServer, Headers) for key in keys_of(block)} | {"x", "<<", ":", ""})
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=3) | st.sampled_from([HASH, "TLS12", "deny", "RequireAndVerifyClientCert", ".", "a.pem", "a.key"])
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5), max_leaves=15)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4) | ANYTHING)
def test_any_structure_is_usable_or_mistakes(folder: Path, structure: Any) -> None:
    """Whatever the file says, also about files; each mistake is one printable line."""
    assert all(line.isprintable() and line.startswith("web.yaml") for line in said(folder, yaml.safe_dump(structure), dates=True))


def test_the_reference_is_what_may_be_written(folder: Path) -> None:
    """Its example is valid, and its tables name the keys that exist with the defaults that hold."""
    section = re.split(r"(?m)^### ", (Path(__file__).parents[2] / "docs/configuration.md").read_text().partition("\n### `web_config`\n")[2])[0]
    (example,) = re.findall(r"(?s)```yaml\n(.*?)```", section)
    config = load(written(folder, example))
    assert (["prometheus"], 3, 1) == (list(config.users), len(config.files), len(config.headers))
    told = re.findall(r"(?m)^\| `(.+?) \| (.+?) \|", section)
    keys = [key for keys, _ in told for key in re.findall(r"[a-z0-9_]+", keys)]
    defaults = [default for keys, words in told for default in re.findall(r"[A-Za-z0-9]+", words) * (2 if words == "required" else 1)]
    fields = [(key, field) for block in (WebConfig, TlsServer, HttpServer) for key, field in keys_of(block).items()]
    assert {key: "required" if field.required else "null" if default_of(field) is None else str(default_of(field)).replace("False", "false") for key, field in fields} == dict(
        zip(keys, defaults, strict=True)
    )
    assert set(keys_of(Headers)) <= set(re.findall(r"`([\w-]+)`", section))
