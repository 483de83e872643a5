"""Why Kafka refuses a connection.

aiokafka raises the same error for every failed start: it could not connect. The reason goes to its log. Here the
first steps of a connection are taken again, one by one, and where the broker's end of it looks as if it spoke another
language (TLS or none, SASL or none), that language is tried. What only a person can fix is an `AccessError`; all else
is a reason to try again.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from driftline.core.error import AccessError
from driftline.kafka import cleanup

PATIENCE_S = 5.0
ALERT_S = 2.0  # for an alert after the handshake
_PROTOCOL = "DRIFTLINE_SECURITY_PROTOCOL"
_CONNECTION = ("ssl_context", "security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
_Faults = (KafkaError, OSError, EOFError, AssertionError, ValueError)


async def explain_access(options: Mapping[str, Any]) -> tuple[AccessError | None, BaseException | None]:
    """What keeps us out, and what the last broker that was asked answered.

    Args:
        options: from `client_options`.

    Returns:
        An error if a person must change something, and what was met otherwise; two None if all is well now.
    """
    try:
        return await _explain(options)
    finally:
        await cleanup.closed()


async def _explain(options: Mapping[str, Any]) -> tuple[AccessError | None, BaseException | None]:
    met: BaseException | None = None
    for address in str(options["bootstrap_servers"]).split(","):
        host, _, port = address.rpartition(":")
        host = host.strip("[] ")
        try:
            await _connect(host, int(port), options)
        except _Faults as error:
            met = error
            if (reason := await _refusal(host, int(port), options, error)) is not None:
                return AccessError(f"Kafka at {address} {reason}"), error
        else:
            return None, None
    return None, met


async def _connect(host: str, port: int, options: Mapping[str, Any]) -> None:
    """Connect, authenticate, and ask one question: a listener with SASL lets strangers in up to there."""
    chosen = {name: options[name] for name in _CONNECTION if name in options}
    connection = await create_conn(host, port, request_timeout_ms=int(PATIENCE_S * 1000), **chosen)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await connection.send(MetadataRequest([]))
    finally:
        connection.close()


async def _refusal(host: str, port: int, options: Mapping[str, Any], error: BaseException) -> str | None:
    """What a person must change, as text; None where waiting may help."""
    mechanism, user = options.get("sasl_mechanism"), options.get("sasl_plain_username")
    protocol = str(options["security_protocol"])
    match error:
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            return (
                f"refuses user {user!r} ({error}); check DRIFTLINE_SASL_USERNAME, DRIFTLINE_SASL_PASSWORD and "
                f"DRIFTLINE_SASL_MECHANISM (now {mechanism})"
            )
        case UnsupportedSaslMechanismError():
            return (
                f"does not support the SASL mechanism {mechanism}; set DRIFTLINE_SASL_MECHANISM to one that it supports"
            )
        case IllegalSaslStateError():
            plain = protocol.replace("SASL_", "")
            return f"does not use SASL on that port; set {_PROTOCOL}={plain}, or use the port of its SASL listener"
        case ssl.SSLCertVerificationError():
            return f"has an untrusted certificate ({error.verify_message}); {_trust(error)}"
    if not isinstance(error, KafkaError | ConnectionError | ssl.SSLError | EOFError):
        return None
    if isinstance(error, ConnectionRefusedError):
        return None
    secure = protocol in ("SSL", "SASL_SSL")
    if secure and await _speaks(host, port, None):
        without, shown = (
            ("SASL_PLAINTEXT", "user, password and data") if protocol.startswith("SASL") else ("PLAINTEXT", "all data")
        )
        return (
            "does not use TLS on that port; use the port of its TLS listener. Only if it has none, set "
            f"{_PROTOCOL}={without}: {shown} can then be read on the way"
        )
    if secure and (alert := await asyncio.to_thread(_turned_away, host, port, options["ssl_context"])) is not None:
        return (
            f"ended the connection ({alert}): it requires a client certificate that it trusts; set "
            "DRIFTLINE_SSL_CERTFILE and DRIFTLINE_SSL_KEYFILE"
        )
    if not secure and await _speaks(host, port, _any_certificate()):
        with_tls = "SASL_SSL" if protocol.startswith("SASL") else "SSL"
        return f"requires TLS on that port; set {_PROTOCOL}={with_tls} (and DRIFTLINE_SSL_CAFILE), or use another port"
    if not protocol.startswith("SASL") and await _speaks(host, port, options.get("ssl_context")):
        with_sasl = "SASL_SSL" if secure else "SASL_PLAINTEXT"
        return (
            f"requires SASL on that port; set {_PROTOCOL}={with_sasl} and DRIFTLINE_SASL_USERNAME, "
            "DRIFTLINE_SASL_PASSWORD, DRIFTLINE_SASL_MECHANISM"
        )
    return None


async def _speaks(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    """Whether what listens there answers with its versions, with TLS or without."""
    protocol = "PLAINTEXT" if context is None else "SSL"
    try:
        connection = await create_conn(
            host, port, request_timeout_ms=int(PATIENCE_S * 1000), security_protocol=protocol, ssl_context=context
        )
    except _Faults:
        return False
    connection.close()
    return True


def _trust(error: ssl.SSLCertVerificationError) -> str:
    """What to do about a certificate that did not pass."""
    match error.verify_code:
        case 9 | 10:  # not yet valid, expired
            return "renew it, or set the clock of this machine"
        case 62 | 64:  # of another host, of another IP address
            return "use a name in DRIFTLINE_BOOTSTRAP that it is for, or have it issued for this one too"
    return "set DRIFTLINE_SSL_CAFILE to its CA's certificate"


def _turned_away(host: str, port: int, context: ssl.SSLContext) -> str | None:
    """The alert with which a broker ends a connection, at the handshake or right after it: that is when, from TLS 1.3
    on, it has looked at our certificate. None where it waits for a request.

    Blocks: asyncio keeps an alert to itself.
    """
    try:
        with socket.create_connection((host, port), PATIENCE_S) as plain:
            plain.settimeout(ALERT_S)
            with context.wrap_socket(plain, server_hostname=host) as secured:
                secured.recv(1)
    except OSError as error:
        reason = getattr(error, "reason", None) or ""
        if re.search("ALERT.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE)", reason):
            return str(reason).lower().replace("_", " ")
    return None


def _any_certificate() -> ssl.SSLContext:
    """To find out whether someone speaks TLS at all; nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
