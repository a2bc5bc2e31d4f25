// Command clients runs what etcd's own client packages promise against one server.
//
// Each command prints "ok" and ends with 0, or says what went wrong. See README.md one folder up.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// secure is how to speak TLS; without it, in plain text.
var secure *tls.Config

var commands = map[string]func(context.Context, *clientv3.Client) error{
	"basics":        basics,
	"session":       session,
	"mutex":         mutex,
	"mutex-service": mutexAndService,
	"election":      election,
	"stm":           stm,
	"leasing":       leasingCache,
	"mirror":        mirrorAll,
	"namespace":     namespaces,
	"ordering":      orderedReads,
	"keepalive":     keepAlive,
	"watch-restart": watchOverRestart,
}

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "the server")
	authorities := flag.String("cacert", "", "whom to trust; the server speaks TLS")
	flag.Parse()
	if *authorities != "" {
		var err error
		if secure, err = trusting(*authorities); err != nil {
			fmt.Fprintf(os.Stderr, "clients: %v\n", err)
			os.Exit(1)
		}
	}
	if err := run(*endpoint, flag.Arg(0)); err != nil {
		fmt.Fprintf(os.Stderr, "clients %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(endpoint, name string) error {
	command, ok := commands[name]
	if !ok {
		names := make([]string, 0, len(commands))
		for name := range commands {
			names = append(names, name)
		}
		sort.Strings(names)
		return fmt.Errorf("unknown command; known are %s", strings.Join(names, ", "))
	}
	// A hanging server is a fault; a busy machine is only slow.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	client, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	return command(ctx, client)
}

func connect(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 10 * time.Second,
		TLS:         secure,
		Logger:      zap.NewNop(),
	})
}

// another is a second client of the same server.
func another(client *clientv3.Client) (*clientv3.Client, error) {
	return connect(client.Endpoints()[0])
}

func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, not %v", what, got, want)
	}
	return nil
}

// value is what a key holds; "" if it is not there.
func value(ctx context.Context, kv clientv3.KV, key string) (string, error) {
	r, err := kv.Get(ctx, key)
	if err != nil || len(r.Kvs) == 0 {
		return "", err
	}
	return string(r.Kvs[0].Value), nil
}
