package audit

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// stored is a tree in memory, kept as the database keeps it.
type stored map[int][]tlog.Hash

var errNoHash = errors.New("no such hash")

func (s stored) read(level int, from, to int64) ([]tlog.Hash, error) {
	if to > int64(len(s[level])) {
		return nil, errNoHash
	}
	return slices.Clone(s[level][from:to]), nil
}

func grow(t interface{ Fatal(...any) }, s stored, f *frontier, h tlog.Hash) {
	s[0] = append(s[0], h)
	err := f.push(0, h, func(level int, n int64, h tlog.Hash) {
		if level%every == 0 {
			if int64(len(s[level])) != n {
				t.Fatal("a node was made out of order")
			}
			s[level] = append(s[level], h)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func leafNumber(i int) tlog.Hash {
	return tlog.RecordHash(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// TestTheTreeIsTheOneOfTheLibrary compares roots and proofs with x/mod's own
// storage of every node.
func TestTheTreeIsTheOneOfTheLibrary(t *testing.T) {
	t.Parallel()
	const size = 70_000 // three stored levels
	var all []tlog.Hash
	library := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = all[x]
		}
		return out, nil
	})
	s, f := stored{}, &frontier{}
	sizes := map[int64]tlog.Hash{0: f.root()}
	for i := range size {
		h := leafNumber(i)
		made, err := tlog.StoredHashesForRecordHash(int64(i), h, library)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, made...)
		grow(t, s, f, h)
		if i < 600 || i%1000 == 0 || i == size-1 {
			want, err := tlog.TreeHash(int64(i)+1, library)
			if err != nil || f.root() != want {
				t.Fatalf("root of %d leaves is %v, want %v (%v)", i+1, f.root(), want, err)
			}
			sizes[f.size] = want
		}
	}
	for n, want := range sizes {
		again, err := hashes(s.read).frontier(n)
		if err != nil || again.root() != want || again.size != n {
			t.Errorf("the right edge of %d leaves read again has root %v, want %v (%v)", n, again.root(), want, err)
		}
		if n == 0 {
			continue
		}
		p, err := tlog.ProveTree(size, n, hashes(s.read))
		if err == nil {
			err = tlog.CheckTree(p, size, f.root(), n, want)
		}
		if err != nil {
			t.Errorf("consistency of %d with %d: %v", n, size, err)
		}
		r, err := tlog.ProveRecord(size, n-1, hashes(s.read))
		if err == nil {
			err = tlog.CheckRecord(r, size, f.root(), n-1, leafNumber(int(n-1)))
		}
		if err != nil {
			t.Errorf("inclusion of %d: %v", n-1, err)
		}
	}
}

func TestARangeAndTheHashesBesideItGiveTheRootOfTheWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 1500).Draw(rt, "size")
		first := rapid.IntRange(0, size).Draw(rt, "first")
		end := rapid.IntRange(first, size).Draw(rt, "end")
		s, whole := stored{}, &frontier{}
		for i := range size {
			grow(rt, s, whole, leafNumber(i))
		}
		part := &frontier{}
		fill := func(to int64) {
			for _, level := range cover(part.size, to) {
				h, err := hashes(s.read).subtree(level, part.size>>level)
				if err == nil {
					err = part.push(level, h, nil)
				}
				if err != nil {
					rt.Fatal(err)
				}
			}
		}
		fill(int64(first))
		for i := first; i < end; i++ {
			if err := part.push(0, leafNumber(i), nil); err != nil {
				rt.Fatal(err)
			}
		}
		fill(int64(size))
		if part.root() != whole.root() || part.size != whole.size {
			rt.Fatalf("[%d, %d) of %d does not give the root", first, end, size)
		}
	})
}

func TestASubtreeThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	f := &frontier{}
	if err := f.push(0, tlog.Hash{}, nil); err != nil {
		t.Fatal(err)
	}
	for _, level := range []int{-1, 1, 5, 61} {
		if f.push(level, tlog.Hash{}, nil) == nil {
			t.Errorf("level %d was taken behind one leaf", level)
		}
	}
}
