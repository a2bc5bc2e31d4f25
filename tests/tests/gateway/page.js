// A page, or a script of Node's, that follows a key and renews a lease over websockets, and calls the gateway meanwhile.
// `talk` returns what it saw, as text.

"use strict";

function talk(host) {
  const at = (scheme, path) => `${scheme}://${host}/v3/${path}`;
  const call = async (path, request) => {
    const answer = await fetch(at("http", path), { method: "POST", body: JSON.stringify(request) });
    return answer.json();
  };
  // Sends `first`; `next` takes each reply and says whether it was the last. Its promise is of how the socket closed.
  const open = (path, first, next) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(at("ws", path));
      socket.onopen = () => socket.send(JSON.stringify(first));
      socket.onerror = () => reject(new Error(`${path}: the websocket failed`));
      socket.onclose = (event) => resolve(`${event.code} ${event.wasClean}`);
      socket.onmessage = async (message) => {
        try {
          if (await next(JSON.parse(message.data).result, socket)) socket.close(1000);
        } catch (error) {
          reject(error);
        }
      };
    });
  return (async () => {
    const seen = [];
    const key = btoa("page");
    const closed = await open("watch", { create_request: { key, prev_kv: true } }, async (reply, socket) => {
      if (reply.created) {
        await call("kv/put", { key, value: btoa("1") });
        await call("kv/put", { key, value: btoa("2") });
        await call("kv/deleterange", { key });
        return false;
      }
      if (reply.canceled) {
        seen.push("canceled");
        return true;
      }
      for (const event of reply.events ?? []) {
        seen.push(`${event.type ?? "PUT"} ${atob(event.kv.value ?? "")} before ${atob(event.prev_kv?.value ?? "")}`);
      }
      if (seen.length === 3) socket.send(JSON.stringify({ cancel_request: { watch_id: 0 } }));
      return false;
    });
    seen.push(closed);
    const lease = await call("lease/grant", { TTL: 1000 });
    let renewals = 0;
    const ended = await open("lease/keepalive", { ID: lease.ID }, async (reply, socket) => {
      seen.push(`renewed ${reply.ID === lease.ID} ${reply.TTL}`);
      renewals += 1;
      if (renewals < 3) socket.send(JSON.stringify({ ID: lease.ID }));
      return renewals === 3;
    });
    seen.push(ended);
    return seen.join("\n");
  })();
}

if (typeof process !== "undefined") {
  talk(process.argv[2]).then(console.log, (error) => {
    console.error(error);
    process.exit(1);
  });
}
