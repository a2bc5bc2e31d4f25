package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// loader writes a history. Which operations there are follows from seed and first numbers alone; only their
// order among each other is the scheduler's.
type loader struct {
	target
	seed        uint64
	workers     int
	firstKey    int // number of the first new key
	keys        int // how many new keys
	firstOp     int // number of the first change
	ops         int // how many changes of keys that exist
	compactions int
	leases      int
	users       int
	untilGone   bool

	acks *acks
	held []clientv3.LeaseID // leases that keys are attached to
	done atomic.Int64
}

// summary is printed at the end, as one line of JSON.
type summary struct {
	// Revision is the newest one.
	Revision int64 `json:"revision"`
	// Compacted is the revision of the last compaction, -1 if there was none.
	Compacted int64 `json:"compacted"`
	// Operations that were acknowledged.
	Operations int64 `json:"operations"`
	// NextKey and NextOp continue this history.
	NextKey int `json:"next_key"`
	NextOp  int `json:"next_op"`
}

func runLoad(args []string) error {
	l := loader{}
	fs := flag.NewFlagSet("load", flag.ExitOnError)
	l.target.flags(fs)
	fs.Uint64Var(&l.seed, "seed", 1, "chance")
	fs.IntVar(&l.workers, "workers", 48, "calls at a time")
	fs.IntVar(&l.firstKey, "first-key", 0, "number of the first new key: next_key of the load before")
	fs.IntVar(&l.keys, "keys", 1000, "new keys")
	fs.IntVar(&l.firstOp, "first-op", 0, "number of the first change: next_op of the load before")
	fs.IntVar(&l.ops, "ops", 1000, "changes: updates, deletes, transactions, leases attached")
	fs.IntVar(&l.compactions, "compactions", 0, "compactions, spread over the first two thirds of the changes")
	fs.IntVar(&l.leases, "leases", 0, "new leases; some older ones are revoked")
	fs.IntVar(&l.users, "users", 0, "new users, each with a role; older ones are changed and deleted")
	fs.BoolVar(&l.untilGone, "until-gone", false, "go on with changes until the server is gone, print how many were acknowledged as it goes")
	file := fs.String("acks", "", "file that gets a line for each acknowledged effect, see verify")
	fs.Parse(args)
	var err error
	if l.acks, err = newAcks(*file); err != nil {
		return err
	}
	if err = l.connect(); err != nil {
		return err
	}
	defer l.client.Close()
	s, err := l.run()
	if err == nil {
		err = l.acks.close()
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func (l *loader) run() (summary, error) {
	s := summary{NextKey: l.firstKey + l.keys, NextOp: l.firstOp + l.ops}
	var err error
	if s.Revision, s.Compacted, err = l.revisions(); err != nil {
		return s, err
	}
	if err := l.changeLeases(); err != nil {
		return s, fmt.Errorf("leases: %w", err)
	}
	if err := l.changeAuth(); err != nil {
		return s, fmt.Errorf("users and roles: %w", err)
	}
	if err := l.fill(); err != nil {
		return s, fmt.Errorf("new keys: %w", err)
	}
	if l.untilGone {
		s.NextOp, err = l.churnUntilGone(s.Revision)
		s.Operations = l.done.Load()
		return s, err
	}
	// Changes in equal parts with a compaction between those of the first two thirds, so that the last
	// third's history stays.
	parts := l.compactions + 1 + l.compactions/2
	for part := range parts {
		from, to := l.firstOp+l.ops*part/parts, l.firstOp+l.ops*(part+1)/parts
		if err := l.churn(from, to); err != nil {
			return s, fmt.Errorf("changes: %w", err)
		}
		if part < l.compactions {
			if err := l.compact(); err != nil {
				return s, fmt.Errorf("compaction: %w", err)
			}
		}
	}
	s.Revision, s.Compacted, err = l.revisions()
	s.Operations = l.done.Load()
	return s, err
}

// compact leaves a quarter of the revisions since the last compaction.
func (l *loader) compact() error {
	newest, compacted, err := l.revisions()
	if err != nil {
		return err
	}
	return l.compactAt(context.Background(), newest-(newest-compacted)/4, clientv3.WithCompactPhysical())
}

func (l *loader) compactAt(ctx context.Context, rev int64, options ...clientv3.CompactOption) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := l.client.Compact(ctx, rev, options...); err != nil {
		return fmt.Errorf("compact %d: %w", rev, err)
	}
	return l.acks.add("compact", rev)
}

// batch is how many new keys make a transaction.
const batch = 40

// fill puts new keys, most of them in transactions, some alone.
func (l *loader) fill() error {
	return l.parallel(l.firstKey, l.firstKey+l.keys, batch, func(ctx context.Context, from, to int) error {
		r := chance(l.seed, purposeFill, from)
		puts := make([]put, 0, batch)
		for n := from; n < to; n++ {
			puts = append(puts, put{key: keyName(l.seed, n), value: value(r), lease: l.lease(r, 20)})
		}
		if r.IntN(8) > 0 {
			return l.transact(ctx, nil, puts, nil)
		}
		for _, p := range puts {
			if err := l.put(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// lease is one that exists for one key in `n`, none for the others.
func (l *loader) lease(r interface{ IntN(int) int }, n int) clientv3.LeaseID {
	if r.IntN(n) > 0 || len(l.held) == 0 {
		return clientv3.NoLease
	}
	return l.held[r.IntN(len(l.held))]
}

func (l *loader) churn(from, to int) error {
	return l.parallel(from, to, 1, func(ctx context.Context, n, _ int) error { return l.change(ctx, n) })
}

// churnUntilGone compacts what there was before, so that the server dies while it deletes, and returns the
// number after that of the last change that was tried.
func (l *loader) churnUntilGone(before int64) (int, error) {
	// The first error ends it for all: a call that begins when the connection is lost already may wait for
	// another one to no end.
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var next atomic.Int64
	next.Store(int64(l.firstOp))
	var group sync.WaitGroup
	group.Go(func() {
		if err := l.compactAt(ctx, before); err != nil {
			cancel(err)
		}
	})
	for range l.workers {
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				call, end := context.WithTimeout(ctx, patience)
				err := l.change(call, n)
				end()
				if err != nil {
					cancel(err)
					return
				}
				if done := l.done.Load(); done%100 == 0 {
					fmt.Printf("acknowledged %d\n", done)
				}
			}
		})
	}
	group.Wait()
	// If all calls under way were answered and the next ones began too late, none fails before its time is up.
	err := context.Cause(ctx)
	if status.Code(errors.Unwrap(err)) != codes.Unavailable && !errors.Is(err, context.DeadlineExceeded) {
		return 0, err
	}
	return int(next.Load()), nil
}

// parallel hands pieces of [from, to) to the workers; the first error ends it.
func (l *loader) parallel(from, to, piece int, work func(ctx context.Context, from, to int) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var next atomic.Int64
	next.Store(int64(from))
	var group sync.WaitGroup
	for range l.workers {
		group.Go(func() {
			for ctx.Err() == nil {
				at := int(next.Add(int64(piece))) - piece
				if at >= to {
					return
				}
				call, done := context.WithTimeout(ctx, patience)
				err := work(call, at, min(at+piece, to))
				done()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
