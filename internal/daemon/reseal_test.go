package daemon

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// After a rotation, every signing key that lies in a file is sealed with the
// new key, and opens.
func TestARotationSealsTheSigningKeysAnew(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	d := nodeWith(t, Config{})
	files := []string{"ca/ca.key.sealed", "audit/log.key", "audit/witness.key", "evidence/signer.sealed"}
	sealedBy := func(name string) string {
		t.Helper()
		body, err := os.ReadFile(filepath.Join(d.config.DataDir, name))
		if err != nil || len(body) < 5 || body[0] != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		return fmt.Sprintf("%08x", binary.BigEndian.Uint32(body[1:5]))
	}
	for end := time.Now().Add(30 * time.Second); d.auditLog.Status().Size == 0; <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the log does not advance") // and its witness has no key before
		}
	}
	old := d.keyring.KeyIDs()[0]
	for _, f := range files {
		if by := sealedBy(f); !strings.EqualFold(by, old) {
			t.Fatalf("%s is sealed with %s, not with %s", f, by, old)
		}
	}
	if _, err := d.rotate(t.Context(), principal.Principal{Kind: principal.Local, UID: 1000}, uuid.Nil); err != nil {
		t.Fatal(err)
	}
	now := d.keyring.KeyIDs()[0]
	for _, f := range files {
		if by := sealedBy(f); by == old || !strings.EqualFold(by, now) {
			t.Errorf("%s is still sealed with %s, not with %s", f, by, now)
		}
	}
	if err := d.resealFiles(); err != nil { // all of them open
		t.Error(err)
	}
}
