package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/problem"
)

// given is what a gateway gives, with something that it sealed.
func given(t *testing.T) (body, sealed []byte, authority string) {
	t.Helper()
	dir := t.TempDir()
	d := newDaemon(Options{Config: Config{DataDir: dir}})
	if err := d.openKeys(); err != nil {
		t.Fatal(err)
	}
	if _, err := openAuthority(dir, d.keyring, time.Now()); err != nil {
		t.Fatal(err)
	}
	sealed, err := d.keyring.Seal([]byte("a pepper"), []byte("test"))
	if err != nil {
		t.Fatal(err)
	}
	c := kit.Content{Version: kit.ContentVersion}
	if c.KEKs, err = d.kitKEKs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Files, err = d.kitFiles(); err != nil {
		t.Fatal(err)
	}
	c.Files = append(c.Files, kit.File{Path: "../outside", Mode: 0o600, Body: []byte("x")}, kit.File{Path: "keys/../../outside", Mode: 0o600, Body: []byte("x")})
	if body, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(AuthorityFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	return body, sealed, string(text)
}

func TestAGatewayThatTakesTheKeysOpensWhatTheOthersSealed(t *testing.T) {
	body, sealed, authority := given(t)
	dir := t.TempDir()
	if !Untouched(dir) {
		t.Fatal("a new data directory counts as used")
	}
	c := Config{DataDir: dir}
	before, err := OpenKeyring(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if Untouched(dir) {
		t.Error("a data directory with keys counts as new")
	}
	ring, err := TakeKeys(c, nil)(body)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := ring.Open(sealed, []byte("test")); err != nil || string(text) != "a pepper" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := before.Open(sealed, []byte("test")); err == nil {
		t.Error("any keys open it: this test did not test")
	}
	again, err := OpenKeyring(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Open(sealed, []byte("test")); err != nil {
		t.Errorf("at the next start: %v", err)
	}
	if text, err := os.ReadFile(AuthorityFile(dir)); err != nil || string(text) != authority {
		t.Errorf("it has another authority (%v)", err)
	}
	for _, dir := range []string{dir, filepath.Dir(dir)} {
		if _, err := os.Lstat(filepath.Join(dir, "outside")); err == nil {
			t.Error("a file was written outside keys and ca")
		}
	}
	for _, name := range []string{"keys", "ca"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

func TestKeysAreNotTakenUnderAnotherKeyEncryptionKey(t *testing.T) {
	body, _, _ := given(t)
	elsewhere := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(elsewhere, []byte("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{DataDir: t.TempDir(), Keys: KeysConfig{KEK: config.Secret{File: elsewhere}}}
	ring, err := OpenKeyring(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TakeKeys(c, nil)(body); problem.From(err).Code != "given-kek-differs" {
		t.Errorf("%v", err)
	}
	if again, err := OpenKeyring(c, nil); err != nil {
		t.Errorf("the keys that were there are gone: %v", err)
	} else if sealed, _ := ring.Seal([]byte("x"), nil); sealed != nil {
		if _, err := again.Open(sealed, nil); err != nil {
			t.Errorf("the keys that were there are others: %v", err)
		}
	}
	if _, err := TakeKeys(c, nil)([]byte(`{"version": 99}`)); problem.From(err).Code != "given-keys-version" {
		t.Errorf("%v", err)
	}
}

func TestOnlyWhoTakesOverByThePlanIsGivenKeys(t *testing.T) {
	needs := []survivor.Need{{From: "one", To: "two"}, {From: "one", To: "night", Refused: "night is isolated: it shares no secret with another node"}}
	for to, gets := range map[string]bool{"two": true, "night": false, "three": false} {
		if why := withheld(needs, "one", to); (why == "") != gets {
			t.Errorf("%s: %q", to, why)
		}
	}
	if withheld(nil, "one", "two") == "" {
		t.Error("without a plan keys are given")
	}
}
