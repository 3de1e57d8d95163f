package console

import (
	"fmt"
	"testing"

	"github.com/missionopsai/foundry/internal/audit"
	"golang.org/x/mod/sumdb/tlog"
)

// TestEveryWayEndsAtTheRoot compares the way that a page draws with the tree
// that x/mod/sumdb/tlog makes, for every leaf of every small tree.
func TestEveryWayEndsAtTheRoot(t *testing.T) {
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for size := int64(1); size <= 40; size++ {
		text := []byte(fmt.Sprint("entry ", size))
		more, err := tlog.StoredHashes(size-1, text, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		root, err := tlog.TreeHash(size, read)
		if err != nil {
			t.Fatal(err)
		}
		for leaf := range size {
			path, err := tlog.ProveRecord(size, leaf, read)
			if err != nil {
				t.Fatal(err)
			}
			p := audit.Proof{Leaf: leaf, LeafHash: tlog.RecordHash([]byte(fmt.Sprint("entry ", leaf+1))), Path: path}
			d := proofData{checkpoint: audit.Checkpoint{Size: size, Root: root}}
			if d.draw(p); d.problem != "" || len(d.steps) != len(path) || len(d.nodes) != 1+2*len(path) {
				t.Fatalf("leaf %d of %d: %q after %d steps", leaf, size, d.problem, len(d.steps))
			}
			// A changed leaf, neighbour or root is seen.
			p.LeafHash[7] ^= 1
			if d = (proofData{checkpoint: d.checkpoint}); true {
				d.draw(p)
			}
			if d.problem == "" {
				t.Fatalf("leaf %d of %d: a changed entry leads to the same root", leaf, size)
			}
		}
	}
}

func TestAQRCodeIsDrawnAsOnePath(t *testing.T) {
	const content = "otpauth://totp/Foundry:ada%40example.org?algorithm=SHA1&digits=6&issuer=Foundry&period=30&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	path, width, err := qrPath(content)
	if err != nil || width < 33 || path[:5] != "M0 0h" {
		t.Fatalf("%d wide, %.20s: %v", width, path, err)
	}
	if d := drawQR(content); d.box != fmt.Sprintf("-4 -4 %d %d", width+8, width+8) {
		t.Errorf("the quiet zone is not four modules: %s", d.box)
	}
	if d := drawQR(string(make([]byte, 5000))); d.width != 0 {
		t.Error("what does not fit is drawn")
	}
}
