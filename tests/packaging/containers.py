"""The files for containers fit one another, the tree and the program: nothing here is started.

Arguments: the program. Run by `cargo xtask packaging`, which has linted the Dockerfile and checked
compose.yaml against its schema before.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

OPERATIONS = Path("operations")
DOCKER = OPERATIONS / "docker"
PROBLEMS = []


def expect(fits, problem):
    if not fits:
        PROBLEMS.append(problem)


def yaml(path):
    return YAML(typ="safe").load(path.read_text())


def instructions(path):
    """Instructions of a Dockerfile with their arguments, continued lines joined."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [line.split(None, 1) for line in lines if line and not line.startswith("#")]


def check_dockerfile(program):
    found = instructions(DOCKER / "Dockerfile")
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    for name, arguments in found:
        if name == "COPY" and "--from" not in arguments and arguments != ". .":
            source = arguments.split()[-2]
            expect(Path(source).exists(), f"Dockerfile copies {source}, which is not there")
            expect(f"!{source}" in ignored, f".dockerignore keeps {source} away from the build")
    for member in [line[1:] for line in ignored if line.startswith("!")]:
        expect(Path(member).exists(), f".dockerignore names {member}, which is not there")
    told = dict(found)
    expect(told["USER"].split(":")[0] not in ("0", "root"), "the container runs as root")
    probe = told["HEALTHCHECK"].split("CMD", 1)[1]
    command = json.loads(told["CMD"])
    for words in (json.loads(probe)[1:], command):
        done = subprocess.run([program, *words, "--help"], capture_output=True, text=True)
        expect(done.returncode == 0, f"the program does not know {shlex.join(words)}: {done.stderr}")
    # The probe asks the port that is exposed, which is the one that is listened on.
    port = told["EXPOSE"]
    expect(f":{port}" in probe, f"the probe asks another port than {port}")
    return port


def configured(program, path):
    """The configuration's values, checked by the program itself: with a key file of ours in the place of
    the one in the container."""
    arguments = [program, "config", "show", "--json", "--config", str(path)]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, "keys.json")
        create = [program, "key", "create", "k", "--scope", "read", "--file", keys, "--quiet"]
        subprocess.run(create, capture_output=True, check=True)
        checked = subprocess.run(
            [program, "config", "check", "--config", str(path)],
            capture_output=True,
            text=True,
            env={**environment, "DALSEGNO__AUTH__KEYS_FILE": keys},
        )
    expect(checked.returncode == 0, f"{path}: {checked.stderr}")
    return {row["key"]: row["value"] for row in json.loads(done.stdout or "[]")}


def mounts(service):
    """Source, target of each volume of a service."""
    return [tuple(str(volume).split(":")[:2]) for volume in service.get("volumes", [])]


def check_compose(port):
    compose = yaml(DOCKER / "compose.yaml")
    services = compose["services"]
    for name, service in services.items():
        for source, target in mounts(service):
            if source.startswith("."):
                there = (DOCKER / source).exists()
                expect(there, f"{name} mounts {source}, which is not there")
            else:
                expect(source in compose["volumes"], f"{name} mounts {source}, which is no volume")
        for published in service.get("ports", []):
            expect(published.startswith("127.0.0.1:"), f"{name} publishes {published} to everybody")
        for needed in service.get("depends_on", []):
            expect(needed in services, f"{name} waits for {needed}, which is no service")
        if "build" in service:
            build = service["build"]
            context = DOCKER / build["context"]
            expect((context / build["dockerfile"]).exists(), f"{name} has no Dockerfile")
        else:
            expect(":" in service["image"], f"{name} takes whatever is newest")
    own = services["dalsegno"]
    expect(any(entry.endswith(f":{port}") for entry in own["ports"]), f"port {port} is not published")
    return services


def inside(services, name, path):
    """The file of the tree that a container sees at a path."""
    for source, target in mounts(services[name]):
        if path == target or path.startswith(f"{target}/"):
            return DOCKER / source / path[len(target):].lstrip("/")
    return Path("nowhere")


def check_config(program, services, port):
    values = configured(program, inside(services, "dalsegno", "/etc/dalsegno/dalsegno.toml"))
    expect(values.get("listen", "").endswith(f":{port}"), f"the host does not listen on {port}")
    volumes = [target for _, target in mounts(services["dalsegno"])]
    for key in ("store.path", "auth.keys_file"):
        kept = any(values.get(key, "").startswith(f"{target}/") for target in volumes)
        expect(kept, f"{key} is {values.get(key)}, which is on no volume")
    made = services["keys"]["command"][0]
    expect(values.get("auth.keys_file", "-") in made, "the key is made in another file")


def check_prometheus(services, port):
    path = "/etc/prometheus/prometheus.yml"
    config = yaml(inside(services, "prometheus", path))
    for rules in config["rule_files"]:
        file = inside(services, "prometheus", f"/etc/prometheus/{rules}")
        expect(file.is_file(), f"prometheus.yml names {rules}, which is not mounted")
        for group in yaml(file)["groups"]:
            for rule in group["rules"]:
                expect({"alert", "expr"} <= rule.keys(), f"{rules}: {rule} is no alert")
    (job,) = config["scrape_configs"]
    targets = [target for static in job["static_configs"] for target in static["targets"]]
    expect(targets == [f"dalsegno:{port}"], f"prometheus reads {targets}")
    secret = job["authorization"]["credentials_file"]
    expect(secret in services["keys"]["command"][0], "prometheus reads another key than is made")


def check_grafana(services):
    provisioning = "/etc/grafana/provisioning"
    sources = yaml(inside(services, "grafana", f"{provisioning}/datasources/prometheus.yaml"))
    for source in sources["datasources"]:
        host = source["url"].split("//")[1].split(":")[0]
        expect(host in services, f"grafana asks {host}, which is no service")
    providers = yaml(inside(services, "grafana", f"{provisioning}/dashboards/dalsegno.yaml"))
    for provider in providers["providers"]:
        folder = provider["options"]["path"]
        shown = [target for _, target in mounts(services["grafana"]) if target.startswith(f"{folder}/")]
        expect(shown, f"no dashboard is mounted in {folder}")
        home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        expect(home in shown, f"the first dashboard is {home}, which is not mounted")
        for dashboard in shown:
            json.loads(inside(services, "grafana", dashboard).read_text())


def check_jaeger(services):
    endpoint = services["dalsegno"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    host = endpoint.split("//")[1].split(":")[0]
    expect(host in services, f"traces go to {host}, which is no service")


def main():
    program = sys.argv[1]
    port = check_dockerfile(program)
    services = check_compose(port)
    check_config(program, services, port)
    check_prometheus(services, port)
    check_grafana(services)
    check_jaeger(services)
    if PROBLEMS:
        sys.exit("\n".join(PROBLEMS))


main()
