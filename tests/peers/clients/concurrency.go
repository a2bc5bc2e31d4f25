package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v3electionpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	v3lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// session: a session outlives its TTL, and its keys go with it.
func session(ctx context.Context, client *clientv3.Client) error {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(5), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, "session/key", "v", clientv3.WithLease(s.Lease())); err != nil {
		return err
	}
	select {
	case <-s.Done():
		return errors.New("the session ended while it was kept alive")
	case <-time.After(11 * time.Second):
	}
	if v, err := value(ctx, client, "session/key"); err != nil || v != "v" {
		return fmt.Errorf("the key of a living session holds %q (%v)", v, err)
	}
	// Without renewals it ends by itself.
	s.Orphan()
	gone := client.Watch(ctx, "session/key", clientv3.WithFilterPut())
	if v, err := value(ctx, client, "session/key"); err != nil {
		return err
	} else if v != "" {
		if r, ok := <-gone; !ok || r.Err() != nil {
			return fmt.Errorf("the watch ended: %v", r.Err())
		}
	}
	r, err := client.TimeToLive(ctx, s.Lease())
	if err != nil {
		return err
	}
	if err := expect("what is left of an orphan", r.TTL, -1); err != nil {
		return err
	}
	// And when it is closed, at once.
	s, err = concurrency.NewSession(client, concurrency.WithTTL(600))
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, "session/key", "w", clientv3.WithLease(s.Lease())); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	v, err := value(ctx, client, "session/key")
	if err != nil {
		return err
	}
	return expect("the key of a closed session", v, "")
}

// mutex: many sessions, never two of them inside.
func mutex(ctx context.Context, client *clientv3.Client) error {
	const workers, rounds = 8, 15
	var inside sync.Mutex
	count := 0
	work := func() error {
		s, err := concurrency.NewSession(client, concurrency.WithTTL(30))
		if err != nil {
			return err
		}
		defer s.Close()
		m := concurrency.NewMutex(s, "mutex")
		for range rounds {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			if !inside.TryLock() {
				return errors.New("two hold the lock")
			}
			count++
			r, err := client.Txn(ctx).If(m.IsOwner()).Commit()
			if err != nil || !r.Succeeded {
				return fmt.Errorf("the holder is not the owner (%v)", err)
			}
			inside.Unlock()
			if err := m.Unlock(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	if err := together(workers, work); err != nil {
		return err
	}
	if err := expect("how often it was held", count, workers*rounds); err != nil {
		return err
	}
	one, err := concurrency.NewSession(client)
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := concurrency.NewSession(client)
	if err != nil {
		return err
	}
	defer two.Close()
	first, second := concurrency.NewMutex(one, "try"), concurrency.NewMutex(two, "try")
	if err := first.TryLock(ctx); err != nil {
		return err
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("the second one is told %v", err)
	}
	return first.Unlock(ctx)
}

// mutexAndService: Go's package and the services of the server exclude each other.
func mutexAndService(ctx context.Context, client *clientv3.Client) error {
	const workers, rounds = 3, 10
	var inside sync.Mutex
	held := func() error {
		if !inside.TryLock() {
			return errors.New("two hold the lock")
		}
		time.Sleep(time.Millisecond)
		inside.Unlock()
		return nil
	}
	byPackage := func() error {
		s, err := concurrency.NewSession(client, concurrency.WithTTL(60))
		if err != nil {
			return err
		}
		defer s.Close()
		m := concurrency.NewMutex(s, "shared")
		for range rounds {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			if err := held(); err != nil {
				return err
			}
			if err := m.Unlock(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	byService := func() error {
		lease, err := client.Grant(ctx, 60)
		if err != nil {
			return err
		}
		locks := v3lockpb.NewLockClient(client.ActiveConnection())
		for range rounds {
			l, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("shared"), Lease: int64(lease.ID)})
			if err != nil {
				return err
			}
			if err := held(); err != nil {
				return err
			}
			if _, err := locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: l.Key}); err != nil {
				return err
			}
		}
		_, err = client.Revoke(ctx, lease.ID)
		return err
	}
	if err := together(2*workers, alternate(byPackage, byService)); err != nil {
		return err
	}
	return electionAndService(ctx, client)
}

func electionAndService(ctx context.Context, client *clientv3.Client) error {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	defer s.Close()
	e := concurrency.NewElection(s, "shared-election")
	if err := e.Campaign(ctx, "package"); err != nil {
		return err
	}
	lease, err := client.Grant(ctx, 60)
	if err != nil {
		return err
	}
	elections := v3electionpb.NewElectionClient(client.ActiveConnection())
	won := make(chan error, 1)
	go func() {
		r, err := elections.Campaign(ctx, &v3electionpb.CampaignRequest{
			Name: []byte("shared-election"), Lease: int64(lease.ID), Value: []byte("service"),
		})
		if err == nil && r.Leader == nil {
			err = errors.New("it won without a leader's key")
		}
		won <- err
	}()
	l, err := elections.Leader(ctx, &v3electionpb.LeaderRequest{Name: []byte("shared-election")})
	if err != nil {
		return err
	}
	if err := expect("who leads", string(l.Kv.Value), "package"); err != nil {
		return err
	}
	if err := e.Resign(ctx); err != nil {
		return err
	}
	if err := <-won; err != nil {
		return err
	}
	r, err := e.Leader(ctx)
	if err != nil {
		return err
	}
	return expect("who leads then", string(r.Kvs[0].Value), "service")
}

// election: leaders follow each other, and an observer sees all of them.
func election(ctx context.Context, client *clientv3.Client) error {
	const candidates = 4
	watching, stop := context.WithCancel(ctx)
	defer stop()
	s, err := concurrency.NewSession(client)
	if err != nil {
		return err
	}
	defer s.Close()
	seen := concurrency.NewElection(s, "election").Observe(watching)
	var leads sync.Mutex
	n := 0
	errs := make(chan error, 1)
	go func() {
		errs <- together(candidates, func() error {
			s, err := concurrency.NewSession(client, concurrency.WithTTL(30))
			if err != nil {
				return err
			}
			defer s.Close()
			e := concurrency.NewElection(s, "election")
			if err := e.Campaign(ctx, "candidate"); err != nil {
				return err
			}
			if !leads.TryLock() {
				return errors.New("two lead")
			}
			n++
			if err := e.Proclaim(ctx, fmt.Sprintf("leader %d", n)); err != nil {
				return err
			}
			// The observer has to come along before the next one.
			for r := range seen {
				if string(r.Kvs[0].Value) == fmt.Sprintf("leader %d", n) {
					break
				}
			}
			leads.Unlock()
			return e.Resign(ctx)
		})
	}()
	if err := <-errs; err != nil {
		return err
	}
	if _, err := concurrency.NewElection(s, "election").Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		return fmt.Errorf("without a leader: %v", err)
	}
	return nil
}

// stm: transfers between accounts leave the sum as it is.
func stm(ctx context.Context, client *clientv3.Client) error {
	const accounts, workers, rounds = 5, 6, 20
	name := func(n int) string { return fmt.Sprintf("account/%d", n%accounts) }
	for n := range accounts {
		if _, err := client.Put(ctx, name(n), "100"); err != nil {
			return err
		}
	}
	worker := 0
	var number sync.Mutex
	err := together(workers, func() error {
		number.Lock()
		worker++
		me := worker
		number.Unlock()
		for round := range rounds {
			from, to := name(me+round), name(me*3+round*2+1)
			if from == to {
				continue
			}
			_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
				var a, b int
				fmt.Sscan(stm.Get(from), &a)
				fmt.Sscan(stm.Get(to), &b)
				stm.Put(from, fmt.Sprint(a-7))
				stm.Put(to, fmt.Sprint(b+7))
				return nil
			}, concurrency.WithAbortContext(ctx), concurrency.WithIsolation(concurrency.SerializableSnapshot))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	sum := 0
	for n := range accounts {
		v, err := value(ctx, client, name(n))
		if err != nil {
			return err
		}
		var held int
		fmt.Sscan(v, &held)
		sum += held
	}
	return expect("the sum", sum, 100*accounts)
}

// together runs work n times at once and returns the first error.
func together(n int, work func() error) error {
	errs := make(chan error, n)
	for range n {
		go func() { errs <- work() }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func alternate(one, two func() error) func() error {
	var mu sync.Mutex
	odd := false
	return func() error {
		mu.Lock()
		odd = !odd
		first := odd
		mu.Unlock()
		if first {
			return one()
		}
		return two()
	}
}
