// A client and a server of HTTP/2 by node's own library.
//
//     node_http2.js server PORT [CERTIFICATE KEY]   tells how much it got
//     node_http2.js client PORT HOST [ROOT]         asks for everything a proxy might get wrong
//
// With files of certificates they speak TLS.
"use strict";
const fs = require("node:fs");
const http2 = require("node:http2");

function serve(port, certificate, key) {
  const server = certificate
    ? http2.createSecureServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) })
    : http2.createServer();
  server.on("stream", (stream, headers) => {
    let length = 0;
    stream.on("error", () => {});
    stream.on("data", (piece) => (length += piece.length));
    stream.on("end", () => {
      const body = JSON.stringify({ upstream: "node", length, path: headers[":path"] });
      stream.respond({ ":status": 200, "content-type": "application/json" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-length": String(length) }));
      stream.end(headers[":method"] === "HEAD" ? "" : body);
    });
  });
  server.listen(port, "127.0.0.1");
  process.on("SIGTERM", () => process.exit(0));
}

function ask(session, host, path, method, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":authority": host, ":path": path, ":method": method });
    let status = 0;
    let text = "";
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.setEncoding("utf8");
    stream.on("data", (piece) => (text += piece));
    stream.on("end", () => resolve({ status, text }));
    stream.on("error", reject);
    stream.end(body);
  });
}

function expect(wanted, found) {
  if (wanted !== found) throw new Error(`wanted ${wanted}, found ${found}`);
}

async function talk(port, host, root) {
  const session = root
    ? http2.connect(`https://127.0.0.1:${port}`, { ca: fs.readFileSync(root), servername: host })
    : http2.connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  session.setTimeout(20000, () => session.destroy(new Error("took too long")));
  const many = Array.from({ length: 200 }, (_, at) => ask(session, host, `/${at}`, "GET"));
  for (const { status } of await Promise.all(many)) expect(200, status);
  const sent = Buffer.alloc(3_000_000, "x");
  const { status, text } = await ask(session, host, "/upload", "POST", sent);
  expect(200, status);
  expect(sent.length, JSON.parse(text).length);
  const head = await ask(session, host, "/head", "HEAD");
  expect(200, head.status);
  expect("", head.text);
  session.close();
  console.log("all well");
}

const [, , role, port, ...more] = process.argv;
if (role === "server") {
  serve(Number(port), ...more);
} else {
  talk(Number(port), ...more).catch((error) => {
    console.error(String(error));
    process.exit(1);
  });
}
