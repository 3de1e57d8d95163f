package audit

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// subtree is the root of a complete subtree of 2^level leaves.
type subtree struct {
	level int
	hash  tlog.Hash
}

// frontier is the right edge of a tree that grows: the complete subtrees that
// cover its leaves, largest first. It is all that is needed to append.
type frontier struct {
	size  int64
	trees []subtree
}

// push appends a complete subtree (level 0: a leaf). made, if not nil, is told
// of every complete subtree that this finishes, with its place in its level.
func (f *frontier) push(level int, h tlog.Hash, made func(level int, n int64, h tlog.Hash)) error {
	if level < 0 || level > 60 || f.size&(1<<level-1) != 0 || f.size > 1<<60 {
		return fmt.Errorf("a subtree of 2^%d leaves does not fit behind %d leaves", level, f.size)
	}
	f.size += 1 << level
	for n := len(f.trees); n > 0 && f.trees[n-1].level == level; n-- {
		h = tlog.NodeHash(f.trees[n-1].hash, h)
		f.trees = f.trees[:n-1]
		level++
		if made != nil {
			made(level, f.size>>level-1, h)
		}
	}
	f.trees = append(f.trees, subtree{level, h})
	return nil
}

// root is the tree's hash.
func (f *frontier) root() tlog.Hash {
	n := len(f.trees)
	if n == 0 {
		return sha256.Sum256(nil)
	}
	h := f.trees[n-1].hash
	for i := n - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.trees[i].hash, h)
	}
	return h
}

func (f *frontier) clone() *frontier {
	return &frontier{f.size, append([]subtree(nil), f.trees...)}
}

// cover lists the largest complete subtrees of [from, to), from left to right,
// as levels; each begins where the one before ends.
func cover(from, to int64) (levels []int) {
	for from < to {
		l := bits.Len64(uint64(to-from)) - 1
		if from > 0 {
			l = min(l, bits.TrailingZeros64(uint64(from)))
		}
		levels = append(levels, l)
		from += 1 << l
	}
	return levels
}

// every is how many levels of the tree lie between two that are stored.
const every = 8

// hashes reads stored hashes: level is a multiple of every. It returns exactly
// to-from of them or an error.
type hashes func(level int, from, to int64) ([]tlog.Hash, error)

// subtree computes the root of any complete subtree.
func (read hashes) subtree(level int, n int64) (tlog.Hash, error) {
	above := level % every
	row, err := read(level-above, n<<above, (n+1)<<above)
	if err != nil {
		return tlog.Hash{}, err
	}
	for ; above > 0; above-- {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0], nil
}

// ReadHashes implements tlog.HashReader.
func (read hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		h, err := read.subtree(tlog.SplitStoredHashIndex(index))
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// frontier reads the right edge of the tree of the first size leaves.
func (read hashes) frontier(size int64) (*frontier, error) {
	f := &frontier{}
	for _, level := range cover(0, size) {
		h, err := read.subtree(level, f.size>>level)
		if err != nil {
			return nil, err
		}
		if err := f.push(level, h, nil); err != nil {
			return nil, err
		}
	}
	return f, nil
}
