"""A target with network level authentication by Kerberos, made of MIT's GSSAPI, that says what it was given.

Of each connection it takes X.224, TLS, CredSSP (MS-CSSP 3.1.5) with SPNEGO over Kerberos from a keytab, and
writes lines of JSON: the principal, whether the client is bound to this TLS key, and the account that was delegated, with the
SHA-256 of its password. With --behind it then passes the session on to a target with TLS alone, so that there is a desktop.
"""

import argparse
import hashlib
import json
import socket
import ssl
import subprocess
import threading

NTLM = bytes.fromhex("060a2b06010401823702020a")
ROUNDS = 6


def der(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def parts(content):
    """The values in a constructed one, as pairs of tag and content."""
    found = []
    while content:
        tag, length, at = content[0], content[1], 2
        if length & 0x80:
            at = 2 + (length & 0x7F)
            length = int.from_bytes(content[2:at], "big")
        assert len(content) >= at + length, "cut off"
        found.append((tag, content[at : at + length]))
        content = content[at + length :]
    return found


def subject_public_key(certificate):
    """What CredSSP is bound to: the content of the certificate's SubjectPublicKey."""
    pem = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], capture_output=True, check=True).stdout
    shape = ["openssl", "pkey", "-pubin", "-outform", "der"]
    spki = subprocess.run(shape, input=pem, capture_output=True, check=True).stdout
    return parts(parts(spki)[0][1])[1][1][1:]


def exactly(stream, length):
    read = b""
    while len(read) < length:
        more = stream.recv(length - len(read))
        if not more:
            raise EOFError("the client closed the connection")
        read += more
    return read


def ts_request(stream):
    """The next TSRequest: its fields by number."""
    head = exactly(stream, 2)
    assert head[0] == 0x30, head
    length = head[1]
    if length & 0x80:
        length = int.from_bytes(exactly(stream, length & 0x7F), "big")
    return {tag & 0x1F: content for tag, content in parts(exactly(stream, length))}


def token(fields):
    return parts(parts(parts(parts(fields[1])[0][1])[0][1])[0][1])[0][1]


def answer(stream, version, token=None, bound=None):
    fields = der(0xA0, der(0x02, bytes([version])))
    if token:
        fields += der(0xA1, der(0x30, der(0x30, der(0xA0, der(0x04, token)))))
    if bound:
        fields += der(0xA3, der(0x04, bound))
    stream.sendall(der(0x30, fields))


class Kerberos:
    """The accepting end of GSSAPI."""

    def __init__(self, keytab):
        import gssapi

        self.raw = gssapi.raw
        spnego = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
        self.credentials = gssapi.Credentials(usage="accept", store={"keytab": keytab}, mechs=[spnego])
        self.context = gssapi.SecurityContext(creds=self.credentials, usage="accept")

    def seal(self, plain):
        # As Windows lays it out: the checksum comes first.
        iov = self.raw.IOV(self.raw.IOVBufferType.header, plain, std_layout=False)
        self.raw.wrap_iov(self.context, iov, confidential=True)
        return b"".join(buffer.value for buffer in iov)


def serve(stream, options, key, say):
    request = exactly(stream, 4)
    exactly(stream, int.from_bytes(request[2:4], "big") - 4)
    # Connection confirm: NLA, without the early answer about the account.
    stream.sendall(bytes.fromhex("030000130ed000001234000200080002000000"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(options.certificate, options.key)
    with tls.wrap_socket(stream, server_side=True) as secure:
        kerberos = Kerberos(options.keytab)
        fields = {}
        for _ in range(ROUNDS):
            fields = ts_request(secure)
            if 1 not in fields:
                break
            offered = token(fields)
            say(client=int.from_bytes(parts(fields[0])[0][1], "big"), ntlm=b"NTLMSSP" in offered or NTLM in offered)
            if options.ntlm_only:
                chosen = der(0xA0, der(0x0A, b"\x01")) + der(0xA1, NTLM)
                answer(secure, 6, der(0xA1, der(0x30, chosen)))
                continue
            reply = kerberos.context.step(offered)
            if 3 in fields:
                break
            answer(secure, options.version, reply)
        context = kerberos.context
        say(principal=str(context.initiator_name), service=str(context.target_name), mechanism=context.mech.dotted_form)
        nonce, bound = parts(fields[5])[0][1], context.unwrap(parts(fields[3])[0][1])
        hashed = lambda way: hashlib.sha256(f"CredSSP {way} Binding Hash\0".encode() + nonce + key).digest()
        say(bound=bound.message == hashed("Client-To-Server"), sealed=bound.encrypted)
        back = hashed("Server-To-Client")
        answer(secure, options.version, bound=kerberos.seal(bytes(32) if options.other_key else back))
        given = context.unwrap(parts(ts_request(secure)[2])[0][1])
        kind, credentials = parts(parts(given.message)[0][1])
        password = parts(parts(credentials[1])[0][1])[0][1]
        domain, user, password = (parts(value)[0][1].decode("utf-16-le") for _, value in parts(password))
        digest = hashlib.sha256(password.encode()).hexdigest()
        say(domain=domain, user=user, password=digest, kind=kind[1][-1], sealed=given.encrypted)
        if options.behind:
            pass_on(secure, options.behind)


def pass_on(secure, behind):
    """Joins the session to a target with TLS alone."""
    host, port = behind.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(bytes.fromhex("030000130ee000000000000100080001000000"))
        confirm = exactly(plain, 4)
        exactly(plain, int.from_bytes(confirm[2:4], "big") - 4)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as far:
            ways = [threading.Thread(target=copy, args=way, daemon=True) for way in ((secure, far), (far, secure))]
            for way in ways:
                way.start()
            ways[1].join()


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        # The other way ends with this one.
        sink.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keytab", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--behind", help="HOST:PORT of a target with TLS alone")
    parser.add_argument("--version", type=int, default=6, help="of CredSSP")
    parser.add_argument("--ntlm-only", action="store_true", help="chooses NTLM, whatever is offered")
    parser.add_argument("--other-key", action="store_true", help="is bound to another key than its own")
    options = parser.parse_args()
    key = subject_public_key(options.certificate)
    listener = socket.create_server(("127.0.0.1", options.port))

    def say(**what):
        print(json.dumps(what), flush=True)

    def one(stream):
        try:
            serve(stream, options, key, say)
        except Exception as fault:  # Whatever goes wrong with one client, the next one is served.
            say(fault=f"{type(fault).__name__}: {fault}")
        finally:
            stream.close()

    while True:
        stream, _ = listener.accept()
        threading.Thread(target=one, args=(stream,), daemon=True).start()


if __name__ == "__main__":
    main()
