"use strict";
// A dalsegno server of a test.

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");

function freePort() {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

function isOpen(port) {
  return new Promise((resolve) => {
    const probe = net.connect(port, "127.0.0.1");
    probe.on("connect", () => probe.end(() => resolve(true)));
    probe.on("error", () => resolve(false));
  });
}

// `dalsegno dev`, or `dalsegno serve` with this configuration.
async function start(configuration = "") {
  const port = await freePort();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "dalsegno-sdk-"));
  const file = path.join(folder, "dalsegno.toml");
  const place = `[store]\npath = "${folder}/hub"\n`;
  const keys = configuration.includes("[auth]") ? "" : 'auth.required = "never"\n';
  fs.writeFileSync(file, `listen = "127.0.0.1:${port}"\n${keys}${configuration}\n${place}`);
  const flags = configuration
    ? ["serve", "--config", file]
    : ["dev", "--no-compat-ports", "--port", String(port), "--data-dir", folder];
  const child = spawn(process.env.DALSEGNO, flags, { stdio: "ignore" });
  for (let tries = 0; !(await isOpen(port)); tries++) {
    if (tries === 600) throw new Error("the server did not start within 30 s");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    address: `localhost:${port}`,
    async end() {
      const ended = new Promise((resolve) => child.on("exit", resolve));
      child.kill("SIGTERM");
      await ended;
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

module.exports = { start };
