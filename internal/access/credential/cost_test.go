package credential

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func TestEveryHasherOfAProgramHasTheFullCosts(t *testing.T) {
	if PasswordCost < 12 || SecretCost < 10 {
		t.Fatalf("costs %d and %d", PasswordCost, SecretCost)
	}
	h := hasher(t, 1)
	if h.password != PasswordCost || h.secret != SecretCost {
		t.Errorf("%+v", h.costs)
	}
	for decoy, want := range map[string]int{h.passwordDecoy: PasswordCost, h.secretDecoy: SecretCost} {
		if cost, err := bcrypt.Cost([]byte(decoy)); err != nil || cost != want {
			t.Errorf("a decoy costs %d %v, want %d: who has no account can be told apart", cost, err, want)
		}
	}
	hash, err := h.HashSecret(strings.Repeat("a", 32))
	if err != nil {
		t.Fatal(err)
	}
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost != SecretCost {
		t.Errorf("a secret costs %d %v", cost, err)
	}
	if _, err := h.HashSecret(strings.Repeat("a", 73)); err == nil {
		t.Error("a secret of which bcrypt does not see the end is hashed")
	}
}

// The quick hasher is there for tests of other packages, and so cannot be
// hidden from their programs: it refuses to work in them.
func TestTheQuickHasherRefusesToWorkOutsideOfTests(t *testing.T) {
	if _, err := NewQuickHasher(bytes.Repeat([]byte{1}, 32)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// The program is overlaid on a folder within internal's reach, and leaves
	// nothing there.
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "outside", "main.go"): filepath.Join(dir, "main.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"overlay.json": string(overlay), "main.go": `package main

import "github.com/missionopsai/foundry/internal/access/credential"

func main() { _, _ = credential.NewQuickHasher(make([]byte, 32)) }
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("go", "run", "-overlay", filepath.Join(dir, "overlay.json"), "./outside").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "outside of a test") {
		t.Fatalf("a program hashes quickly: %v %s", err, out)
	}
}
