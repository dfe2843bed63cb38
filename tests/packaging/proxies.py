"""The configurations of proxies do what docs/proxy.md says, with a real nginx and a real Caddy.

Arguments: the program. NGINX and CADDY name the proxies. Run by `cargo xtask packaging`. Everything
listens on loopback.
"""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc

OPERATIONS = Path("operations")
NAME = "dalsegno.example"
# The client: an address of this machine that is not the proxy's.
CLIENT = "127.0.0.2"
PATIENCE = 30
HELLO = "/TaskHubSidecarService/Hello"
WORK = "/TaskHubSidecarService/GetWorkItems"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{what} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{what} does not listen after {PATIENCE} s")


class Running:
    """A process that ends with its block."""

    def __init__(self, what, port, command, **more):
        self.process = subprocess.Popen(command, **more)
        self.what, self.port = what, port

    def __enter__(self):
        try:
            wait_for(self.port, self.process, self.what)
        except SystemExit:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def host(program, folder, port, access):
    config = folder / "dalsegno.toml"
    config.write_text(
        f'listen = "127.0.0.1:{port}"\n{access}\n'
        f'[store]\npath = "{folder}/hub"\n'
        f'[http]\npublic_url = "https://{NAME}"\nhosts = ["{NAME}"]\ntrusted_proxies = ["127.0.0.1"]\n'
        "[log]\nlevel = \"warn\"\n"
    )
    return Running("the host", port, [program, "serve", "--config", str(config)], stderr=subprocess.DEVNULL)


def certificate(folder):
    names = [folder / "tls.crt", folder / "tls.key"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{NAME}", "-out", names[0], "-keyout", names[1]]
    subprocess.run(command, check=True, capture_output=True)
    return names


def changed(text, *pairs):
    """The text with each old part replaced; it has to be there."""
    for old, new in pairs:
        if old not in text:
            raise SystemExit(f"the configuration has no {old!r} any more")
        text = text.replace(old, new)
    return text


def nginx(folder, upstream, port, files):
    own = changed(
        (OPERATIONS / "nginx/dalsegno.conf").read_text(),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/dalsegno.crt", str(files[0])),
        ("/etc/ssl/dalsegno.key", str(files[1])),
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    config = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{own}}}\n"
    )
    # What is written before the configuration is read goes to a log that only root may write.
    command = [os.environ["NGINX"], "-c", str(config), "-p", str(folder), "-e", f"{folder}/nginx.log"]
    return Running("nginx", port, command)


def caddy(folder, upstream, port, files):
    own = changed(
        (OPERATIONS / "caddy/Caddyfile").read_text(),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
        (f"\n{NAME} {{\n", f"\nhttps://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {files[0]} {files[1]}\n"),
    )
    config = folder / "Caddyfile"
    config.write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{own}")
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    command = [os.environ["CADDY"], "run", "--config", str(config), "--adapter", "caddyfile"]
    return Running("Caddy", port, command, env=environment, stderr=subprocess.DEVNULL)


class Through(http.client.HTTPConnection):
    """A connection to a proxy, from the client's address, for the name of the host."""

    def connect(self):
        bare = socket.create_connection((self.host, self.port), PATIENCE, (CLIENT, 0))
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(bare, server_hostname=NAME)


def ask(port, method, path, key=None, **more):
    connection = Through("127.0.0.1", port)
    headers = {"Host": NAME, **({"x-functions-key": key} if key else {}), **more}
    connection.request(method, path, headers=headers)
    return connection, connection.getresponse()


def call(port, key, name, responses, files):
    credentials = grpc.ssl_channel_credentials(files[0].read_bytes())
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        metadata = [("x-functions-key", key)] if key else []
        kind = channel.unary_stream if responses else channel.unary_unary
        method = kind(name, request_serializer=bytes, response_deserializer=bytes)
        try:
            answered = method(b"", metadata=metadata, timeout=PATIENCE)
            if responses:
                # A worker's stream begins with a sign of life, long before it ends.
                next(iter(answered))
                answered.cancel()
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            return error.code()


def check(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: {found!r} instead of {wanted!r}")


def check_guarded(name, port, keys, files):
    """A host with keys behind the proxy."""
    v1 = "/runtime/dalsegno/v1"
    check(f"{name}: no key", ask(port, "GET", f"{v1}/instances")[1].status, 401)
    check(f"{name}: a key", ask(port, "GET", f"{v1}/instances", keys["all"])[1].status, 200)
    # The client claims to be somebody else, in both spellings.
    claims = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1", "X-Forwarded-Host": "evil.example"}
    _, started = ask(port, "POST", "/runtime/webhooks/durabletask/orchestrators/Order", keys["all"], **claims)
    check(f"{name}: a start", started.status, 202)
    link = json.load(started)["statusQueryGetUri"]
    check(f"{name}: the origin of links", link.split("/runtime")[0], f"https://{NAME}")
    code = link.split("code=")[1]
    path = link.removeprefix(f"https://{NAME}")
    check(f"{name}: a link", ask(port, "GET", path)[1].status, 202)
    check(f"{name}: a forged link", ask(port, "GET", path.replace(code, code[:-1] + "x"))[1].status, 403)
    last = json.load(ask(port, "GET", f"{v1}/audit?top=1", keys["all"])[1])[0]
    check(f"{name}: the client's address", (last["address"], last["caller"]), (CLIENT, "all"))
    connection, stream = ask(port, "GET", f"{v1}/stream", keys["all"])
    check(f"{name}: a stream", stream.status, 200)
    # A proxy that buffered would send nothing yet, and the read would time out.
    while not stream.readline().startswith(b"event: reset"):
        pass
    connection.close()
    code = grpc.StatusCode
    for key, wanted in ((None, code.UNAUTHENTICATED), ("dsl1_x", code.UNAUTHENTICATED), (keys["all"], code.OK)):
        check(f"{name}: gRPC with {key and key[:4]}", call(port, key, HELLO, False, files), wanted)
    check(f"{name}: work", call(port, keys["worker"], WORK, True, files), code.OK)
    check(f"{name}: work without the scope", call(port, keys["reader"], WORK, True, files), code.PERMISSION_DENIED)


def check_open(name, port, files):
    """A host without keys, which somebody put behind the proxy all the same."""
    _, refused = ask(port, "GET", "/runtime/dalsegno/v1/instances")
    check(f"{name}: without keys", (refused.status, json.load(refused)["code"]), (403, "forwarded_without_keys"))
    found = call(port, None, HELLO, False, files)
    check(f"{name}: gRPC without keys", found, grpc.StatusCode.PERMISSION_DENIED)


def key(program, file, name, *scopes):
    flags = [flag for scope in scopes for flag in ("--scope", scope)]
    command = [program, "key", "create", name, "--file", str(file), *flags, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["secret"]


def main(program):
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files = certificate(folder)
        file = folder / "keys.json"
        keys = {
            "all": key(program, file, "all", "all"),
            "worker": key(program, file, "worker", "worker"),
            "reader": key(program, file, "reader", "read"),
        }
        guarded, bare = free_port(), free_port()
        (folder / "bare").mkdir()
        grpc_on = '[grpc]\nworkers = "this-hub"'
        with (
            host(program, folder, guarded, f'[auth]\nkeys_file = "{file}"\n{grpc_on}'),
            host(program, folder / "bare", bare, f'[auth]\nrequired = "never"\n{grpc_on}'),
        ):
            for name, proxy in (("nginx", nginx), ("Caddy", caddy)):
                for upstream in (guarded, bare):
                    port = free_port()
                    own = folder / f"{name}-{upstream}"
                    own.mkdir()
                    with proxy(own, upstream, port, files):
                        if upstream == guarded:
                            check_guarded(name, port, keys, files)
                        else:
                            check_open(name, port, files)
                print(f"{name}: as docs/proxy.md says")


if __name__ == "__main__":
    main(sys.argv[1])
