"""`bitville cert new`: a certificate for a collector on a private network, which its agents trust by `ca`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bitville_apm import limits
from bitville_apm.cli.errors import NotDone

_NAME = re.compile(r"(?=.{1,253}\Z)(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\Z")


def add_to(commands: Any) -> None:
    """The command and its action."""
    cert = commands.add_parser("cert", help="a certificate for the collector")
    actions = cert.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser(
        "new",
        help="make a key and a certificate that it signs itself",
        description="Makes a private key and a certificate that it signs itself: for a collector that only your own "
        "agents and browsers talk to. Agents trust it by `ca`; a browser asks once.",
    )
    new.add_argument("names", nargs="*", type=_name, metavar="NAME", help="host names and addresses it is valid for")
    new.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="where to write (default: here)")
    new.add_argument(
        "--days",
        type=_days,
        default=limits.CERTIFICATE_DAYS,
        metavar="N",
        help=f"how long it is valid (default: {limits.CERTIFICATE_DAYS})",
    )
    new.add_argument("--json", action="store_true", help="print JSON, for programs")
    new.set_defaults(run=_new)


def _name(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    if not _NAME.match(text) or re.fullmatch(r"[0-9.]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a host name nor an address (no https://, no port)")
    return text.lower()


def _days(text: str) -> int:
    days = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 1 <= days <= limits.CERTIFICATE_DAYS:
        raise argparse.ArgumentTypeError(f"whole days are wanted, 1 to {limits.CERTIFICATE_DAYS}")
    return days


def _new(given: argparse.Namespace) -> int:
    own = given.names or [socket.getfqdn(), socket.gethostname()]
    names = list(dict.fromkeys([*own, "localhost", "127.0.0.1"]))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, names, given.days)
    paths = [given.to / "collector.key", given.to / "collector.crt"]
    taken = [path for path in paths if path.exists()]
    if taken:
        raise NotDone(f"{taken[0]} is there already and is not replaced; move it away first")
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    given.to.mkdir(parents=True, exist_ok=True)
    _write(paths[0], key.private_bytes(pem, pkcs8, plain), 0o640)
    _write(paths[1], certificate.public_bytes(pem), 0o644)
    until = certificate.not_valid_after_utc
    if given.json:
        told = {"certificate": str(paths[1]), "private_key": str(paths[0]), "names": names, "until": until.isoformat()}
        print(json.dumps(told))
        return 0
    print(f"Valid for {', '.join(names)} until {until:%Y-%m-%d}.")
    print("The key is for the collector's user only: chown it to root, and its group to the daemon's.")
    print("\ncollector.ini, on this host:\n\n[collector]")
    print(f"certificate = {paths[1].resolve()}\nprivate_key = {paths[0].resolve()}")
    print(f"\nagent.ini, on every other host, which needs a copy of {paths[1].name}:\n\n[collector]")
    print(f"url = https://{_in_url(names[0])}:8443\nca = /etc/bitville-apm/{paths[1].name}")
    return 0


def _certificate(key: ec.EllipticCurvePrivateKey, names: list[str], days: int) -> x509.Certificate:
    """Its own authority and nobody else's: it may sign nothing below it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _in_url(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file that was never readable by more than `mode` says."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(descriptor, mode)
