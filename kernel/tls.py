"""TLS as every door and every outgoing connection does it: the profile of BCP 195 (RFC 9325).

TLS 1.2 and 1.3 only, ephemeral keys and authenticated ciphers only, no renegotiation and no compression.
Standards: PS3.15 B.12 (BCP 195 RFC 9325 TLS Secure Transport Connection Profile), IHE ATNA.
"""

import ssl

from kernel.errors import InvalidSetting

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!eNULL:!PSK:!SHA1"  # of TLS 1.2 (RFC 9325 4.2)


def server_context(
    setting: str, certificate: str, key: str, client_ca: str, *, is_demanded: bool = True
) -> ssl.SSLContext:
    """For a listener. With `client_ca`, a client without a certificate of those authorities is refused, or,
    unless `is_demanded`, one that shows another certificate.

    setting: the name of the setting that a complaint is about. Raises InvalidSetting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    _load(context, setting, certificate, key, client_ca)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED if is_demanded else ssl.CERT_OPTIONAL
    return context


def client_context(setting: str, certificate: str, key: str, ca: str, pinned: bool) -> ssl.SSLContext:
    """For a connection that we open: the peer's certificate must be of `ca`, or of the system's authorities
    when that is empty; ours is shown when there is one.

    The name in the certificate is not compared: DICOM nodes are known by their certificates, not by names
    of hosts. pinned: the caller compares the certificate itself, which needs no authority. Raises
    InvalidSetting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    context.check_hostname = False
    _load(context, setting, certificate, key, ca)
    if pinned:
        context.verify_mode = ssl.CERT_NONE
    elif not ca:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def host_context(ca: str = "") -> ssl.SSLContext:
    """For a connection to a host that is known by its name: the certificate must be of that name, and of the
    authorities in the PEM file `ca`, or of the system's."""
    context = ssl.create_default_context(cafile=ca or None)
    _restrict(context)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE


def _load(context: ssl.SSLContext, setting: str, certificate: str, key: str, ca: str) -> None:
    try:
        if certificate:
            context.load_cert_chain(certificate, key or None)
        if ca:
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError):
        raise InvalidSetting(setting, certificate, "certificate, key or authorities cannot be read") from None
