package main

import (
	"bufio"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"go.etcd.io/bbolt"
)

// runBolt prints every pair of database files: a line `file` for each file, a line `bucket` for each bucket,
// and a line for each pair with key, length of the value and its digest.
func runBolt(paths []string) error {
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	for _, path := range paths {
		fmt.Fprintf(out, "file %s\n", path)
		if err := dumpFile(out, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return out.Flush()
}

func dumpFile(out *bufio.Writer, path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			fmt.Fprintf(out, "bucket %x\n", name)
			return bucket.ForEach(func(key, value []byte) error {
				if value == nil {
					return fmt.Errorf("bucket %q holds the bucket %q, none of etcd's does", name, key)
				}
				_, err := fmt.Fprintf(out, "%x %d %s\n", key, len(value), digest(value))
				return err
			})
		})
	})
}

// runBoltApply changes a database file as the standard input says: lines `put BUCKET KEY VALUE` and
// `delete BUCKET KEY`, the latter two in hex, and `commit`.
func runBoltApply(args []string) error {
	fs := flag.NewFlagSet("bolt-apply", flag.ExitOnError)
	freelist := fs.Bool("freelist", false, "store the list of free pages; etcd does not on Linux")
	fs.Parse(args)
	if fs.NArg() != 1 {
		return fmt.Errorf("one file is needed")
	}
	db, err := bbolt.Open(fs.Arg(0), 0o600, &bbolt.Options{NoFreelistSync: !*freelist, NoSync: true})
	if err != nil {
		return err
	}
	defer db.Close()
	in := bufio.NewReader(os.Stdin)
	for {
		more := false
		err := db.Update(func(tx *bbolt.Tx) (err error) {
			more, err = applySome(tx, in)
			return err
		})
		if err != nil || !more {
			return err
		}
	}
}

// applySome applies changes up to the next commit, or to the end: then there are no more.
func applySome(tx *bbolt.Tx, in *bufio.Reader) (more bool, err error) {
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if words[0] == "commit" {
			return true, nil
		}
		if err := applyOne(tx, words); err != nil {
			return false, fmt.Errorf("%.100s: %w", line, err)
		}
	}
}

func applyOne(tx *bbolt.Tx, words []string) error {
	if len(words) < 3 {
		return fmt.Errorf("too few words")
	}
	bucket := tx.Bucket([]byte(words[1]))
	if bucket == nil {
		return fmt.Errorf("there is no such bucket")
	}
	key, err := hex.DecodeString(words[2])
	if err != nil {
		return err
	}
	switch {
	case words[0] == "delete" && len(words) == 3:
		return bucket.Delete(key)
	case words[0] == "put" && len(words) == 4:
		value, err := hex.DecodeString(words[3])
		if err != nil {
			return err
		}
		return bucket.Put(key, value)
	default:
		return fmt.Errorf("this is no change")
	}
}
