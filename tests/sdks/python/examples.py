"""The examples in examples/python and examples/javascript, run as their pages say.

python examples.py [NAME ...]    with the binary's path in DALSEGNO; node finds
@microsoft/durabletask-js from examples/javascript upwards
"""

import os
import subprocess
import sys
import time

from server import Server

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "examples")
LANGUAGES = {
    "python": ([sys.executable], ["hello.py", "fan_out.py", "approval.py", "entity.py"]),
    "javascript": (["node"], ["hello.js", "fan-out.js", "approval.js", "entity.js"]),
}
INSTANCES = {"python": "count-all", "javascript": "count-all-words"}
# What they print last, without blanks: the SDKs write JSON with and without.
PRINTED = {
    "hello": '["HelloTokyo!","HelloSeattle!","HelloLondon!"]',
    "fan": "250wordsin50texts",
    "approval": '"120paidback"',
    "entity": '{"ada":0,"bob":100}',
}
WAIT = 60


def start(server, language, name):
    return subprocess.Popen(
        [*LANGUAGES[language][0], name],
        cwd=os.path.join(EXAMPLES, language),
        env={**os.environ, "ADDRESS": server.address, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def last_line(process):
    text, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, f"exit code {process.returncode}"
    return text.splitlines()[-1].replace(" ", "")


def approve(server, process):
    """Does what the program says is to be done."""
    for line in process.stdout:
        if "dalsegno raise" in line:
            words = line.split("dalsegno ")[1].split()
            command = [os.environ["DALSEGNO"], "--server", f"http://{server.address}", *words]
            subprocess.run(command, check=True, capture_output=True)
            return
    raise AssertionError("it did not say how to approve")


def runs(server, language, name):
    process = start(server, language, name)
    if name.startswith("approval"):
        approve(server, process)
    printed = last_line(process)
    expected = PRINTED[name.replace(".", "-").replace("_", "-").split("-")[0]]
    assert printed == expected, f"{printed!r} instead of {expected!r}"


def until_some_are_counted(server, instance):
    command = [os.environ["DALSEGNO"], "--server", f"http://{server.address}", "history", instance, "--json"]
    until = time.time() + WAIT
    while subprocess.run(command, capture_output=True, text=True).stdout.count("TaskCompleted") < 10:
        assert time.time() < until, "nothing is counted"
        time.sleep(0.1)


def goes_on_after_a_kill(server, language, name):
    first = start(server, language, name)
    until_some_are_counted(server, INSTANCES[language])
    first.kill()
    first.wait()
    second = start(server, language, name)
    text, _ = second.communicate(timeout=WAIT)
    expected = ["going on with the one that was cut off", "250 words in 50 texts"]
    assert text.splitlines() == expected, text


def main(names):
    failed = 0
    tests = [(runs, language, name) for language, (_, programs) in LANGUAGES.items() for name in programs]
    tests += [
        (goes_on_after_a_kill, "python", "fan_out.py"),
        (goes_on_after_a_kill, "javascript", "fan-out.js"),
    ]
    for test, language, name in tests:
        if names and test.__name__ not in names and name not in names:
            continue
        told = f"{test.__name__} {language}/{name}"
        server = Server()
        begin = time.time()
        try:
            test(server, language, name)
            print(f"ok    {told} ({time.time() - begin:.2f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL  {told}: {type(error).__name__}: {str(error)[:500]}", flush=True)
        finally:
            server.end()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
