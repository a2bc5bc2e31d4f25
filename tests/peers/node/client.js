// What users of the Node client etcd3 do, against one server: put, get, txn, watch, lease, lock, election.
//
// Prints "ok" and ends with 0, or says what went wrong. Arguments: the endpoint, and a file of authorities for TLS.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { Etcd3 } = require('etcd3');

async function puts(client) {
  await client.put('js/a').value('1');
  assert.equal(await client.get('js/a').string(), '1');
  await client.put('js/n').value(7);
  assert.equal(await client.get('js/n').number(), 7);
  assert.deepEqual(await client.getAll().prefix('js/').strings(), { 'js/a': '1', 'js/n': '7' });
  assert.equal(await client.get('js/none').string(), null);
  const gone = await client.delete().key('js/n');
  assert.equal(gone.deleted, '1');
}

async function txns(client) {
  const yes = await client
    .if('js/a', 'Value', '==', '1')
    .and('js/none', 'Create', '==', 0)
    .then(client.put('js/t').value('yes'), client.get('js/a'))
    .else(client.put('js/t').value('no'))
    .commit();
  assert.equal(yes.succeeded, true);
  assert.equal(yes.responses[1].response_range.kvs[0].value.toString(), '1');
  const no = await client.if('js/t', 'Value', '!=', 'yes').then(client.put('js/t').value('no')).commit();
  assert.equal(no.succeeded, false);
  await client.stm().transact(async tx => {
    const held = Number(await tx.get('js/a').string());
    await tx.put('js/a').value(String(held + 1));
  });
  assert.equal(await client.get('js/a').string(), '2');
}

async function watches(client) {
  const watcher = await client.watch().prefix('js/w/').create();
  const seen = [];
  const all = new Promise(resolve => {
    watcher.on('put', kv => seen.push(kv.value.toString()));
    watcher.on('delete', kv => resolve(kv.key.toString()));
  });
  for (let n = 0; n < 20; n++) {
    await client.put(`js/w/${n % 3}`).value(String(n));
  }
  await client.delete().key('js/w/0');
  assert.equal(await all, 'js/w/0');
  assert.deepEqual(seen, Array.from({ length: 20 }, (_, n) => String(n)));
  await watcher.cancel();
}

async function leases(client) {
  const lease = client.lease(5);
  await lease.put('js/l').value('v');
  await new Promise(resolve => setTimeout(resolve, 11000));
  assert.equal(await client.get('js/l').string(), 'v', 'kept alive');
  await lease.revoke();
  assert.equal(await client.get('js/l').string(), null);

  const short = client.lease(5, { autoKeepAlive: false });
  const watcher = await client.watch().key('js/short').create();
  const gone = new Promise(resolve => watcher.once('delete', resolve));
  await short.put('js/short').value('v');
  await gone;
  await watcher.cancel();
  short.release();
}

async function locks(client) {
  let inside = 0;
  let held = 0;
  async function work() {
    for (let n = 0; n < 5;) {
      const lock = client.lock('js-lock').ttl(30);
      try {
        await lock.acquire();
      } catch (error) {
        // This client does not wait for who holds it.
        if (error.constructor.name !== 'EtcdLockFailedError') throw error;
        await new Promise(resolve => setTimeout(resolve, 10));
        continue;
      }
      inside += 1;
      assert.equal(inside, 1, 'two hold the lock');
      await new Promise(resolve => setTimeout(resolve, 2));
      inside -= 1;
      held += 1;
      n += 1;
      await lock.release();
    }
  }
  await Promise.all([work(), work(), work()]);
  assert.equal(held, 15);
}

async function elections(client) {
  const first = client.election('js-election', 30).campaign('one');
  await new Promise((resolve, reject) => first.on('elected', resolve).on('error', reject));
  const second = client.election('js-election', 30).campaign('two');
  const won = new Promise((resolve, reject) => second.on('elected', resolve).on('error', reject));
  assert.equal(await client.election('js-election').leader(), 'one');
  await first.resign();
  await won;
  assert.equal(await client.election('js-election').leader(), 'two');
  await second.resign();
}

function connect(endpoint, authorities) {
  if (!authorities) return new Etcd3({ hosts: `http://${endpoint}` });
  return new Etcd3({ hosts: `https://${endpoint}`, credentials: { rootCertificate: fs.readFileSync(authorities) } });
}

async function main(endpoint, authorities) {
  const client = connect(endpoint, authorities);
  await puts(client);
  await txns(client);
  await watches(client);
  await leases(client);
  await locks(client);
  await elections(client);
  client.close();
  console.log('ok');
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error);
    process.exit(1);
  },
);
