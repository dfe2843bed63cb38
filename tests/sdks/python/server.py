"""A dalsegno server of a test: started, killed, started again on the same folder."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`dalsegno dev`, or `dalsegno serve` with this configuration."""

    def __init__(self, configuration=None):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="dalsegno-sdk-")
        self.process = None
        self.arguments = ["dev", "--no-compat-ports", "--port", str(self.port), "--data-dir", self.folder]
        if configuration is not None:
            self.arguments = ["serve", "--config", self.configured(configuration)]
        self.start()

    def configured(self, configuration):
        path = os.path.join(self.folder, "dalsegno.toml")
        with open(path, "w") as file:
            file.write(f'listen = "127.0.0.1:{self.port}"\n')
            if "[auth]" not in configuration:
                file.write('auth.required = "never"\n')
            file.write(f"{configuration}\n")
            file.write(f'[store]\npath = "{self.folder}/hub"\n')
        return path

    @property
    def address(self):
        return f"localhost:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            [os.environ["DALSEGNO"], *self.arguments],
            stderr=subprocess.DEVNULL,
        )
        until = time.time() + 30
        while time.time() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the server did not start within 30 s")

    def kill(self):
        """As kill -9 does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def verify(self):
        """Ends it and has its hub checked; what is wrong."""
        self.process.terminate()
        self.process.wait(timeout=60)
        hub = self.folder if self.arguments[0] == "dev" else os.path.join(self.folder, "hub")
        done = subprocess.run([os.environ["DALSEGNO"], "verify", hub], capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)
