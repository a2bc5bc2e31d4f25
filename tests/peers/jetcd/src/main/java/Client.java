// What users of jetcd do, against one server: put, get, txn, watch, lease, lock, election, and what the server says of itself.
//
// Prints "ok" and ends with 0, or says what went wrong. Arguments: the endpoint's URL, and a file of authorities for https.

import static java.nio.charset.StandardCharsets.UTF_8;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.CloseableClient;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchEvent.EventType;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

public final class Client {
  /** How long anything may take: a hanging server is a fault, a busy machine is only slow. */
  private static final long PATIENCE_SECONDS = 120;

  public static void main(String[] args) {
    try {
      run(args[0], args.length > 1 ? new File(args[1]) : null);
      System.out.println("ok");
      System.exit(0);
    } catch (Throwable why) {
      why.printStackTrace();
      System.exit(1);
    }
  }

  private static void run(String url, File authorities) throws Exception {
    var builder = io.etcd.jetcd.Client.builder().endpoints(url);
    if (authorities != null) {
      builder.sslContext(tls -> tls.trustManager(authorities));
    }
    try (var client = builder.build()) {
      puts(client.getKVClient());
      txns(client.getKVClient());
      watches(client.getKVClient(), client.getWatchClient());
      leases(client.getKVClient(), client.getWatchClient(), client.getLeaseClient());
      locks(client.getKVClient(), client.getLeaseClient(), client.getLockClient());
      elections(client);
      servers(client, url);
    }
  }

  private static void puts(KV kv) throws Exception {
    expect("no value before", wait(kv.put(bytes("java/a"), bytes("1"))).hasPrevKv(), false);
    GetResponse got = wait(kv.get(bytes("java/a")));
    KeyValue first = got.getKvs().get(0);
    expect("value", text(first.getValue()), "1");
    expect("version", first.getVersion(), 1L);
    expect("revision", first.getModRevision(), got.getHeader().getRevision());
    var before = wait(kv.put(bytes("java/a"), bytes("2"), PutOption.builder().withPrevKV().build()));
    expect("value before", text(before.getPrevKv().getValue()), "1");
    wait(kv.put(bytes("java/b"), bytes("3")));
    GetOption descending = GetOption.builder().isPrefix(true)
        .withSortField(GetOption.SortTarget.KEY).withSortOrder(GetOption.SortOrder.DESCEND).build();
    expect("sorted", texts(wait(kv.get(bytes("java/"), descending)).getKvs()), List.of("java/b=3", "java/a=2"));
    GetOption past = GetOption.builder().withRevision(first.getModRevision()).withSerializable(true).build();
    expect("the past", texts(wait(kv.get(bytes("java/a"), past)).getKvs()), List.of("java/a=1"));
    GetOption count = GetOption.builder().isPrefix(true).withCountOnly(true).build();
    expect("count", wait(kv.get(bytes("java/"), count)).getCount(), 2L);
    var gone = wait(kv.delete(bytes("java/b"), DeleteOption.builder().withPrevKV(true).build()));
    expect("deleted", gone.getDeleted(), 1L);
    expect("deleted value", texts(gone.getPrevKvs()), List.of("java/b=3"));
    expect("nothing left", wait(kv.get(bytes("java/b"))).getCount(), 0L);
    wait(kv.compact(first.getModRevision() + 1));
    try {
      wait(kv.get(bytes("java/a"), past));
      throw new AssertionError("what was compacted is read");
    } catch (java.util.concurrent.ExecutionException refused) {
      String said = String.valueOf(refused.getCause());
      expect(said, said.contains("etcdserver: mvcc: required revision has been compacted"), true);
    }
  }

  private static void txns(KV kv) throws Exception {
    TxnResponse yes = wait(kv.txn()
        .If(new Cmp(bytes("java/a"), Cmp.Op.EQUAL, CmpTarget.value(bytes("2"))),
            new Cmp(bytes("java/none"), Cmp.Op.EQUAL, CmpTarget.version(0)))
        .Then(Op.put(bytes("java/t"), bytes("yes"), PutOption.DEFAULT), Op.get(bytes("java/a"), GetOption.DEFAULT))
        .Else(Op.put(bytes("java/t"), bytes("no"), PutOption.DEFAULT))
        .commit());
    expect("first txn", yes.isSucceeded(), true);
    expect("its range", texts(yes.getGetResponses().get(0).getKvs()), List.of("java/a=2"));
    Cmp[] nothing = {};
    TxnResponse no = wait(kv.txn()
        .If(new Cmp(bytes("java/a"), Cmp.Op.GREATER, CmpTarget.modRevision(yes.getHeader().getRevision())))
        .Then(Op.put(bytes("java/t"), bytes("no"), PutOption.DEFAULT))
        .Else(Op.txn(nothing, new Op[] {Op.delete(bytes("java/t"), DeleteOption.DEFAULT)}, new Op[] {}))
        .commit());
    expect("second txn", no.isSucceeded(), false);
    expect("inner txn", no.getTxnResponses().get(0).getDeleteResponses().get(0).getDeleted(), 1L);
  }

  private static void watches(KV kv, Watch watch) throws Exception {
    BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
    WatchOption all = WatchOption.builder().isPrefix(true).withPrevKV(true).build();
    List<WatchEvent> seen = new ArrayList<>();
    try (var watcher = watch.watch(bytes("java/w/"), since(kv, all), r -> events.addAll(r.getEvents()))) {
      for (int n = 0; n < 20; n++) {
        wait(kv.put(bytes("java/w/" + n % 3), bytes(String.valueOf(n))));
      }
      wait(kv.delete(bytes("java/w/0")));
      for (int n = 0; n < 21; n++) {
        seen.add(next(events));
      }
    }
    for (int n = 0; n < 20; n++) {
      expect("event", text(seen.get(n).getKeyValue().getValue()), String.valueOf(n));
      if (n >= 3) {
        expect("value before", text(seen.get(n).getPrevKV().getValue()), String.valueOf(n - 3));
      }
    }
    expect("the last one", seen.get(20).getEventType(), EventType.DELETE);
    WatchOption later = WatchOption.builder().isPrefix(true).withNoPut(true)
        .withRevision(seen.get(5).getKeyValue().getModRevision()).build();
    try (var watcher = watch.watch(bytes("java/w/"), later, r -> events.addAll(r.getEvents()))) {
      WatchEvent deleted = next(events);
      expect("filtered", deleted.getEventType(), EventType.DELETE);
      expect("filtered key", text(deleted.getKeyValue().getKey()), "java/w/0");
    }
  }

  /** The same options from the next revision on, so that nothing is missed while a watch is being made. */
  private static WatchOption since(KV kv, WatchOption given) throws Exception {
    long revision = wait(kv.get(bytes("java/none"))).getHeader().getRevision();
    return WatchOption.builder().isPrefix(given.isPrefix()).withPrevKV(given.isPrevKV()).withRevision(revision + 1).build();
  }

  private static void leases(KV kv, Watch watch, Lease lease) throws Exception {
    long id = wait(lease.grant(60)).getID();
    PutOption attached = PutOption.builder().withLeaseId(id).build();
    wait(kv.put(bytes("java/l/1"), bytes("v"), attached));
    wait(kv.put(bytes("java/l/2"), bytes("v"), attached));
    var left = wait(lease.timeToLive(id, LeaseOption.builder().withAttachedKeys().build()));
    expect("granted", left.getGrantedTTL(), 60L);
    expect("attached", left.getKeys().stream().map(Client::text).sorted().collect(Collectors.toList()),
        List.of("java/l/1", "java/l/2"));
    expect("once", wait(lease.keepAliveOnce(id)).getTTL(), 60L);
    wait(lease.revoke(id));
    expect("revoked", wait(kv.get(bytes("java/l/1"))).getCount(), 0L);

    long kept = wait(lease.grant(10)).getID();
    wait(kv.put(bytes("java/kept"), bytes("v"), PutOption.builder().withLeaseId(kept).build()));
    BlockingQueue<Object> replies = new LinkedBlockingQueue<>();
    BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
    WatchOption ends = since(kv, WatchOption.DEFAULT);
    long begin = System.nanoTime();
    // At once, and after a third of its life.
    try (CloseableClient keeping = lease.keepAlive(kept, queue(replies))) {
      for (int n = 0; n < 2; n++) {
        Object reply = next(replies);
        expect("renewed " + reply, reply instanceof LeaseKeepAliveResponse, true);
        expect("renewed lease", ((LeaseKeepAliveResponse) reply).getID(), kept);
      }
      expect("kept alive", wait(kv.get(bytes("java/kept"))).getCount(), 1L);
    }
    // Without renewals it ends by itself.
    try (var watcher = watch.watch(bytes("java/kept"), ends, r -> events.addAll(r.getEvents()))) {
      expect("end of a lease", next(events).getEventType(), EventType.DELETE);
      long life = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - begin);
      expect("prolonged: " + life + " s", life >= 13, true);
    }
  }

  private static <T> StreamObserver<T> queue(BlockingQueue<Object> to) {
    return new StreamObserver<>() {
      @Override
      public void onNext(T reply) {
        to.add(reply);
      }

      @Override
      public void onError(Throwable why) {
        to.add(why);
      }

      @Override
      public void onCompleted() {}
    };
  }

  private static void locks(KV kv, Lease lease, Lock lock) throws Exception {
    AtomicInteger inside = new AtomicInteger();
    AtomicInteger held = new AtomicInteger();
    List<CompletableFuture<Void>> workers = new ArrayList<>();
    for (int worker = 0; worker < 4; worker++) {
      workers.add(CompletableFuture.runAsync(() -> {
        try {
          long id = wait(lease.grant(60)).getID();
          for (int n = 0; n < 5; n++) {
            ByteSequence key = wait(lock.lock(bytes("java-lock"), id)).getKey();
            expect("who holds the lock", inside.incrementAndGet(), 1);
            expect("its key", wait(kv.get(key)).getCount(), 1L);
            held.incrementAndGet();
            inside.decrementAndGet();
            wait(lock.unlock(key));
          }
          wait(lease.revoke(id));
        } catch (Exception why) {
          throw new java.util.concurrent.CompletionException(why);
        }
      }, task -> new Thread(task).start()));
    }
    for (var worker : workers) {
      wait(worker);
    }
    expect("how often it was held", held.get(), 20);
  }

  private static void elections(io.etcd.jetcd.Client client) throws Exception {
    Lease lease = client.getLeaseClient();
    var election = client.getElectionClient();
    long one = wait(lease.grant(60)).getID();
    long two = wait(lease.grant(60)).getID();
    CampaignResponse first = wait(election.campaign(bytes("java-election"), one, bytes("one")));
    CompletableFuture<CampaignResponse> second = election.campaign(bytes("java-election"), two, bytes("two"));
    wait(election.proclaim(first.getLeader(), bytes("still one")));
    expect("leader", text(wait(election.leader(bytes("java-election"))).getKv().getValue()), "still one");
    wait(election.resign(first.getLeader()));
    wait(second);
    expect("next leader", text(wait(election.leader(bytes("java-election"))).getKv().getValue()), "two");
    wait(lease.revoke(two));
    wait(lease.revoke(one));
  }

  private static void servers(io.etcd.jetcd.Client client, String url) throws Exception {
    expect("members", wait(client.getClusterClient().listMember()).getMembers().size(), 1);
    var status = wait(client.getMaintenanceClient().statusMember(url));
    expect("leader", status.getLeader(), status.getHeader().getMemberId());
    expect("alarms", wait(client.getMaintenanceClient().listAlarms()).getAlarms().size(), 0);
    var snapshot = new ByteArrayOutputStream();
    long bytes = wait(client.getMaintenanceClient().snapshot(snapshot));
    expect("snapshot", (long) snapshot.size(), bytes);
    expect("snapshot's trailer", snapshot.size() % 512, 32);
  }

  private static <T> T wait(CompletableFuture<T> future) throws Exception {
    return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
  }

  private static <T> T next(BlockingQueue<T> queue) throws Exception {
    T next = queue.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
    if (next == null) {
      throw new AssertionError("nothing comes");
    }
    return next;
  }

  private static ByteSequence bytes(String text) {
    return ByteSequence.from(text, UTF_8);
  }

  private static String text(ByteSequence bytes) {
    return bytes.toString(UTF_8);
  }

  private static List<String> texts(List<KeyValue> pairs) {
    return pairs.stream().map(kv -> text(kv.getKey()) + "=" + text(kv.getValue())).collect(Collectors.toList());
  }

  private static void expect(String what, Object got, Object wanted) {
    if (!wanted.equals(got)) {
      throw new AssertionError(what + ": is " + got + ", not " + wanted);
    }
  }
}
