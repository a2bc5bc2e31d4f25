package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// chance is a generator that depends on nothing but its arguments: what happens to a key is the same in
// every run, whatever the workers' order.
func chance(seed uint64, purpose uint64, n int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, purpose<<40^uint64(n)))
}

const (
	purposeName = iota + 1
	purposeFill
	purposeChurn
	purposeLease
	purposeUser
	purposeRole
	purposeSample
)

// keyName is the name of the key with this number. Neighbours share a prefix; some names hold any bytes,
// some are long.
func keyName(seed uint64, n int) string {
	r := chance(seed, purposeName, n)
	name := fmt.Sprintf("%s/%04d/%02d", [...]string{"app", "registry", "z\xffz", "a\x00b"}[n/1000%4], n/100, n%100)
	switch {
	case r.IntN(50) == 0:
		name += string(randomBytes(r, 1+r.IntN(20)))
	case r.IntN(1000) == 0:
		name += string(randomBytes(r, 1000+r.IntN(2000)))
	}
	return name
}

// value is mostly short, sometimes empty, now and then larger than any page.
func value(r *rand.Rand) string {
	switch k := r.IntN(2000); {
	case k == 0:
		return string(randomBytes(r, 70_000+r.IntN(60_000)))
	case k < 20:
		return string(randomBytes(r, 3000+r.IntN(6000)))
	case k < 120:
		return ""
	default:
		return string(randomBytes(r, 1+r.IntN(120)))
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		word := r.Uint64()
		for j := i; j < n && j < i+8; j++ {
			b[j] = byte(word)
			word >>= 8
		}
	}
	return b
}

// digest is FNV-1a: the same few lines in any language.
func digest(b []byte) string {
	h := fnv.New64a()
	h.Write(b)
	return fmt.Sprintf("%016x", h.Sum64())
}
