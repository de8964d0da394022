"""Says as JSON what came of one connection to each HOST PORT KIND of argv (mysql or postgres)."""

import json
import socket
import sys

# The first eight bytes of a client that would like TLS; the server says S or N.
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


def knock(host: str, port: int, kind: str) -> object:
    """One of open, silent, {refused|unknown|closed: why}."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return {"unknown": error.strerror or str(error)}
    try:
        with socket.create_connection((host, port), timeout=5) as link:
            return greet(link, kind)
    except OSError as error:
        return {"closed": error.strerror or str(error)}


def greet(link: socket.socket, kind: str) -> object:
    """Whether the other end speaks as that kind of server does."""
    link.settimeout(3)
    try:
        if kind == "postgres":
            link.sendall(SSL_REQUEST)
            return "open" if link.recv(1) in (b"S", b"N") else "silent"
        # MySQL speaks first: a greeting of version 10, or 0xff and why it refuses this host.
        said = link.recv(512)
    except OSError:
        return "silent"
    if said[4:5] == b"\xff":
        return {"refused": said[7:].decode(errors="replace").strip()}
    return "open" if said[4:5] == b"\n" else "silent"


words = sys.argv[1:]
places = zip(words[::3], words[1::3], words[2::3], strict=True)
print(json.dumps([knock(host, int(port), kind) for host, port, kind in places]))
