"""What is said of a broker's certificate that does not pass, and of a broker that does not trust ours.

The handshake alone is at stake, so a server of our own stands for the broker. `tests/integration/test_faults.py` has a
real one.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

import pytest

from driftline.config import load_settings
from driftline.core.error import AccessError, SettingsError
from driftline.devbroker.java import JavaError
from driftline.kafka import client
from driftline.kafka.access import explain_access
from driftline.kafka.client import client_options
from tests.conftest import missing

pytestmark = pytest.mark.slow

STORE = "changeit"
CERTIFICATES: Mapping[str, tuple[str, ...]] = {
    "good": ("-ext", "SAN=ip:127.0.0.1", "-validity", "2"),
    "expired": ("-ext", "SAN=ip:127.0.0.1", "-startdate", "-10d", "-validity", "2"),
    "early": ("-ext", "SAN=ip:127.0.0.1", "-startdate", "+10d", "-validity", "2"),
    "address": ("-ext", "SAN=ip:127.0.0.2", "-validity", "2"),
    "name": ("-ext", "SAN=dns:kafka.example", "-validity", "2"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates and keys, one encrypted."""
    keytool, openssl = shutil.which("keytool"), shutil.which("openssl")
    if keytool is None or openssl is None:
        missing(JavaError("these tests need keytool, which comes with Java, and openssl"))
    folder = tmp_path_factory.mktemp("certificates")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    for name, options in CERTIFICATES.items():
        store = str(folder / f"{name}.p12")
        opening = ("-alias", "node", "-keystore", store, "-storepass", STORE)
        run(keytool, "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *opening, "-dname", "CN=node", *options)
        run(keytool, "-exportcert", "-rfc", *opening, "-file", str(folder / f"{name}.pem"))
        opened = (openssl, "pkcs12", "-in", store, "-passin", f"pass:{STORE}", "-nocerts")
        run(*opened, "-nodes", "-out", str(folder / f"{name}.key"))
        if name == "name":
            run(*opened, "-passout", "pass:another", "-out", str(folder / "encrypted.key"))
    return folder


async def told(made: Path, name: str, client: str | None = None, ours: str | None = None) -> str | None:
    """What we are told of a server with a certificate.

    Args:
        client: which certificate it requires of us.
        ours: which we have.
    """
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(made / f"{name}.pem", made / f"{name}.key")
    if client is not None:
        serving.verify_mode = ssl.CERT_REQUIRED
        serving.load_verify_locations(made / f"{client}.pem")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=_serve, args=(listening, serving), daemon=True).start()
        port = listening.getsockname()[1]
        return await _asked(made, name, ours, port)


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands with whoever comes, and say nothing; asyncio's server would keep its alerts to itself."""
    with contextlib.suppress(OSError):  # the test is over
        while True:
            plain, _ = listening.accept()
            with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secured:
                secured.settimeout(10)
                secured.recv(1)


async def _asked(made: Path, name: str, ours: str | None, port: int) -> str | None:
    environ = {"DRIFTLINE_SECURITY_PROTOCOL": "SSL", "DRIFTLINE_SSL_CAFILE": str(made / f"{name}.pem")}
    if ours is not None:
        environ |= {
            f"DRIFTLINE_SSL_{kind}FILE": str(made / f"{ours}.{end}") for kind, end in (("CERT", "pem"), ("KEY", "key"))
        }
    refused, _ = await explain_access(client_options(load_settings(environ, {"bootstrap": f"127.0.0.1:{port}"})))
    assert refused is None or isinstance(refused, AccessError)
    return None if refused is None else str(refused)


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("expired", "renew it"),
        ("early", "the clock"),
        ("address", "use a name in DRIFTLINE_BOOTSTRAP"),
        ("name", "use a name in DRIFTLINE_BOOTSTRAP"),
    ],
)
async def test_what_is_wrong_with_a_certificate_says_what_to_do(made: Path, name: str, does: str) -> None:
    """Another CA's file, which was advised whatever was wrong, would not have helped."""
    text = await told(made, name)
    assert text is not None
    assert does in text
    assert "CAFILE" not in text


@pytest.mark.parametrize("ours", [None, "name"])
async def test_a_broker_that_wants_another_certificate_of_ours_says_so(made: Path, ours: str | None) -> None:
    text = await told(made, "good", client="expired", ours=ours)
    assert text is not None
    assert "requires a client certificate that it trusts; set DRIFTLINE_SSL_CERTFILE" in text


async def test_a_broker_that_only_says_nothing_may_be_waited_for(made: Path) -> None:
    assert await told(made, "good") is None


def test_no_password_of_a_key_is_asked_for(made: Path) -> None:
    environ = {
        "DRIFTLINE_SECURITY_PROTOCOL": "SSL",
        "DRIFTLINE_SSL_CERTFILE": str(made / "name.pem"),
        "DRIFTLINE_SSL_KEYFILE": str(made / "encrypted.key"),
    }
    with pytest.raises(SettingsError, match="the key is encrypted, .* decrypt it"):
        client_options(load_settings(environ))


def test_a_mechanism_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice was to start a broker."""
    monkeypatch.setattr(client, "find_spec", lambda _: None)
    environ = {"DRIFTLINE_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "DRIFTLINE_SASL_MECHANISM": "GSSAPI"}
    with pytest.raises(SettingsError, match="pip install gssapi"):
        client_options(load_settings(environ))
