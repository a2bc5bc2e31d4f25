package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
)

// acks writes down what a server acknowledged: one line each, words separated by blanks, keys in hex.
type acks struct {
	mutex sync.Mutex
	file  *os.File
	out   *bufio.Writer
}

func newAcks(path string) (*acks, error) {
	if path == "" {
		return &acks{}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &acks{file: file, out: bufio.NewWriter(file)}, nil
}

func (a *acks) add(words ...any) error {
	if a.file == nil {
		return nil
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	_, err := a.out.WriteString(strings.TrimSuffix(fmt.Sprintln(words...), "\n") + "\n")
	return err
}

func (a *acks) put(p put, rev int64) error {
	return a.add("put", rev, fmt.Sprintf("%x", p.key), digest([]byte(p.value)), int64(p.lease))
}

func (a *acks) removed(key string, rev int64) error {
	return a.add("removed", rev, fmt.Sprintf("%x", key))
}

func (a *acks) close() error {
	if a.file == nil {
		return nil
	}
	if err := a.out.Flush(); err != nil {
		return err
	}
	return a.file.Close()
}
