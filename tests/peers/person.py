"""What the Python peers share: a person's codes, and a log-in with paramiko by key and code."""

import os
import subprocess

import paramiko

HERE = os.path.dirname(os.path.abspath(__file__))


def fresh_code() -> str:
    """A second-factor code that was not used before; COFFERDAM_CODE overrides it."""
    given = os.environ.get("COFFERDAM_CODE")
    return given or subprocess.check_output([os.path.join(HERE, "code")], text=True).strip()


def logged_in(host: str, port: str, user: str, key: str) -> paramiko.Transport:
    """A transport on which `user` is logged in."""
    # Asks for the log-in service once, as RFC 4252 has it; the plain Transport asks again before each method.
    transport = paramiko.ServiceRequestingTransport((host, int(port)))
    transport.start_client(timeout=30)
    remaining = transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key_file(key))
    if remaining:
        assert "keyboard-interactive" in remaining, remaining
        remaining = transport.auth_interactive(user, lambda _title, _text, prompts: [fresh_code() for _ in prompts])
    assert not remaining and transport.is_authenticated(), remaining
    return transport
