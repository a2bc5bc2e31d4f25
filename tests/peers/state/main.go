// Command state fills an etcd server with a history, and prints all that a client can see of one.
//
// It speaks to any server through etcd's own client, so that what two servers made of the same data
// directory can be compared line by line. See README.md one folder up for its commands.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "state:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("a command is missing: load, dump, verify, bolt or bolt-apply")
	}
	switch name, args := args[0], args[1:]; name {
	case "load":
		return runLoad(args)
	case "dump":
		return runDump(args)
	case "verify":
		return runVerify(args)
	case "bolt":
		return runBolt(args)
	case "bolt-apply":
		return runBoltApply(args)
	default:
		return fmt.Errorf("unknown command %q: load, dump, verify, bolt and bolt-apply are known", name)
	}
}

// target is the server that a command works on.
type target struct {
	endpoint string
	skip     skipped
	client   *clientv3.Client
}

func (t *target) flags(fs *flag.FlagSet) {
	fs.StringVar(&t.endpoint, "endpoint", "127.0.0.1:2379", "the server")
	fs.Var(&t.skip, "skip", "services that this server does not have: leases, auth (comma separated); fails if it has them")
}

// patience bounds how long a single call may take: a busy machine is slow, a hanging server is a fault.
const patience = 2 * time.Minute

func (t *target) connect() (err error) {
	t.client, err = clientv3.New(clientv3.Config{
		Endpoints:   []string{t.endpoint},
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
	return err
}

// revisions are the newest one and that of the last compaction, -1 if there was none.
func (t *target) revisions() (newest, compacted int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := t.client.HashKV(ctx, t.endpoint, 0)
	if err != nil {
		return 0, 0, err
	}
	return r.Header.Revision, r.CompactRevision, nil
}

// skipped names what a server does not serve.
type skipped map[string]bool

func (s *skipped) String() string { return "" }

func (s *skipped) Set(list string) error {
	*s = skipped{}
	for _, name := range strings.Split(list, ",") {
		switch name {
		case "":
		case "leases", "auth":
			(*s)[name] = true
		default:
			return fmt.Errorf("%q cannot be skipped", name)
		}
	}
	return nil
}
